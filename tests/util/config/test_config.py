"""util.config: every experiment loads; overrides have the right types, and relative paths the right start."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from util import config as config_module
from util.config import experiments, load_config, save_config
from util.config.schema import FIELDS, Config
from util.files import PROJECT

EXPERIMENTS = [(dataset, name) for dataset in ("pascal", "coco", "shapes") for name in experiments(dataset)]


def load(*overrides: str) -> Config:
    return load_config("pascal", "ssl_resnet50", overrides)


@pytest.mark.parametrize(("dataset", "experiment"), EXPERIMENTS)
def test_every_experiment_loads(dataset: str, experiment: str) -> None:
    config = load_config(dataset, experiment)
    kind = experiment.split("_")[0]
    assert config.TRAIN.split == (5 if kind in ("ssl", "joint") else int(kind.removeprefix("split")))
    assert config.unsupervised == (kind == "ssl")
    assert config.TRAIN.pseudo_share == (0.5 if kind == "joint" else 0)
    assert not (config.unsupervised and config.TRAIN.evaluate)


@pytest.mark.parametrize(
    ("dataset", "experiment", "batch", "epochs", "rate", "scales", "seed"),
    [
        ("pascal", "ssl_resnet50", 4, 200, 0.002, (0.9, 1.1), 123),
        ("pascal", "split2_resnet101", 4, 100, 0.0001, (0.9, 1.1), 123),
        ("coco", "ssl_resnet101", 32, 50, 0.01, (0.8, 1.25), 321),
        ("coco", "split0_resnet50", 16, 50, 0.0025, (0.8, 1.25), 321),
    ],
)
def test_published_values(
    dataset: str, experiment: str, batch: int, epochs: int, rate: float, scales: tuple[float, float], seed: int
) -> None:
    """The table of docs/method.md, section 9."""
    train = load_config(dataset, experiment).TRAIN
    assert (train.batch_size, train.epochs, train.base_lr) == (batch, epochs, rate)
    assert (train.scale_min, train.scale_max) == scales
    assert train.manual_seed == seed
    assert train.lr_scale == 15


def test_a_folder_of_files_that_name_their_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``prepare folder`` wrote before experiments could be composed, next to what is composed now."""
    shutil.copytree(PROJECT / "config", tmp_path / "config")
    folder = tmp_path / "config" / "mine"
    folder.mkdir()
    data = "{data_root: data/mine, train_list: lists/mine/train.txt, val_list: lists/mine/val.txt, min_area: 33}"
    (folder / "base.yaml").write_text(f"base: [../base.yaml]\nDATA: {data}\n")
    for experiment, split in [("ssl_mobilenetv2", 5), ("split1_mobilenetv2", 1)]:
        text = f"base: [base.yaml, ../mobilenetv2.yaml]\nTRAIN:\n  split: {split}\n"
        (folder / f"mine_{experiment}.yaml").write_text(text)
    monkeypatch.setattr(config_module, "PROJECT", tmp_path)
    own = {name: load_config("mine", name) for name in ("ssl_mobilenetv2", "split1_mobilenetv2")}
    assert experiments("mine", with_own_file=True) == ["split1_mobilenetv2", "ssl_mobilenetv2"]
    assert own["ssl_mobilenetv2"].DATA.data_root == tmp_path / "data" / "mine"
    assert own["ssl_mobilenetv2"].TRAIN.epochs == 4
    assert own["split1_mobilenetv2"].TRAIN.split == 1
    assert load_config("mine", "split3_resnet50").DATA.min_area == 33
    for name, config in own.items():
        (folder / f"mine_{name}.yaml").unlink()
        assert load_config("mine", name) == config


def test_each_dataset_has_each_family() -> None:
    for dataset, families in [("pascal", 3), ("coco", 3), ("shapes", 4)]:
        assert len(experiments(dataset)) == 6 * families


@pytest.mark.parametrize(
    "overrides",
    [["TRAIN.epochs=3"], ["epochs=3"], ["TRAIN.epochs", "3"], ["epochs", "3"], ["epochs=7", "TRAIN.epochs=3"]],
)
def test_forms_of_an_override(overrides: list[str]) -> None:
    assert load(*overrides).TRAIN.epochs == 3


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("base_lr=1", 1.0),
        ("base_lr=1e-4", 1e-4),
        ("evaluate=true", True),
        ("visualize=False", False),
        ("rotate_min=-5", -5.0),
        ("mid_stages=[-2]", [-2]),
        ("train_gpu=[0, 1]", [0, 1]),
        ("compat=published", "published"),
        ("backbone=mobilenetv2_100", "mobilenetv2_100"),
        ("extractor=timm:resnet18", "timm:resnet18"),
    ],
)
def test_values_have_the_type_of_their_key(word: str, value: object) -> None:
    config, key = load(word), word.split("=")[0]
    section = next(section for section in (config.TRAIN, config.VIS, config.Cluster) if hasattr(section, key))
    assert getattr(section, key) == value
    assert type(getattr(section, key)) is type(value)


@pytest.mark.parametrize("overrides", [["weight="], ["weight", ""], ["TRAIN.weight=null"], ["weight=None"]])
def test_empty_value_is_none(overrides: list[str]) -> None:
    assert load("weight=somewhere.pth", *overrides).TRAIN.weight is None


def test_override_of_a_path_starts_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/user")
    assert load("save_path=run").run_folder == tmp_path / "run"
    assert load("TRAIN.weight", "2024-01-01").TRAIN.weight == tmp_path / "2024-01-01"
    assert load("data_root=/data").DATA.data_root == Path("/data")
    assert load("data_root=~/data").DATA.data_root == Path("/home/user/data")
    assert load("backbone_weights=timm").TRAIN.backbone_weights == Path("timm")


def test_path_in_a_file_starts_at_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load()
    assert config.DATA.data_root == PROJECT / "data" / "pascal"
    assert config.TRAIN.backbone_weights == PROJECT / "initmodel" / "resnet50_v2.pth"
    assert config.run_folder == PROJECT / "exp" / "pascal" / "ssl_resnet50"
    assert config.pseudo_folder == PROJECT / "data" / "pascal" / "pascal_moco_pseudo"


def test_every_path_is_absolute_or_timm() -> None:
    for dataset, experiment in EXPERIMENTS:
        config = load_config(dataset, experiment)
        values = [value for section in (config.DATA, config.Cluster, config.TRAIN) for _, value in section]
        assert all(value.is_absolute() for value in values if isinstance(value, Path))


def test_empty_section_keeps_the_base(write_config: Callable[[str], None]) -> None:
    write_config("VIS:\nTRAIN:\n")
    assert load().VIS.visualize


def test_short_names_are_unambiguous() -> None:
    keys = [name.split(".")[1] for name in FIELDS]
    assert len(keys) == len(set(keys))


def test_saved_configuration_is_the_whole_configuration(tmp_path: Path) -> None:
    config = load("epochs=3", "weight=a.pth", "backbone_weights=timm")
    save_config(config, tmp_path / "config.yaml")
    values: dict[str, Any] = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert Config.model_validate(values) == config
