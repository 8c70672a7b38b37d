"""util.config: files and overrides of the published code keep their meaning."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from util import config as config_module
from util.config import load_config
from util.config.schema import Config
from util.errors import UserError
from util.files import PROJECT
from util.logging import warn_once

WriteConfig = Callable[[str], None]


def load(*overrides: str) -> Config:
    return load_config("pascal", "ssl_resnet50", overrides)


@pytest.mark.parametrize(
    ("word", "section", "key"),
    [
        ("data_list=a.txt", "DATA", "train_list"),
        ("DATA.data_list=a.txt", "DATA", "train_list"),
        ("list=a.txt", "DATA", "train_list"),
        ("checkpoint_path=a.txt", "TRAIN", "weight"),
        ("TRAIN.checkpoint_path=a.txt", "TRAIN", "weight"),
        ("weights=a.txt", "Cluster", "extractor_weights"),
    ],
)
def test_aliases(word: str, section: str, key: str) -> None:
    assert getattr(getattr(load(word), section), key) == Path("a.txt").absolute()


def test_alias_in_a_file(write_config: WriteConfig, tmp_path: Path) -> None:
    write_config("DATA: {data_list: lists/mine.txt}\nTRAIN: {checkpoint_path: exp/a.pth}")
    assert load().DATA.train_list == tmp_path / "lists" / "mine.txt"
    assert load().TRAIN.weight == tmp_path / "exp" / "a.pth"
    assert load("list=/other.txt").DATA.train_list == Path("/other.txt")


def test_layers_name_a_backbone_and_its_weights(write_config: WriteConfig, tmp_path: Path) -> None:
    write_config("TRAIN: {layers: 101}")
    assert load().TRAIN.backbone == "resnet101_v2"
    assert load().TRAIN.backbone_weights == tmp_path / "initmodel" / "resnet101_v2.pth"
    assert load("layers=50").TRAIN.backbone == "resnet50_v2"


# The keys of the published code's files, in their order; split0 has no Cluster.
PUBLISHED = """
DATA:
  data_root: "{root}"
  train_list: lists/{dataset}/train.txt
  val_list: lists/{dataset}/val.txt
  classes: 2
{cluster}
VIS:
  debug_vis: False
  visualize: False
TRAIN:
  layers: 50
  sync_bn: True
  train_h: 473
  train_w: 473
  val_size: 473
  hidden_dims: 256
  scale_min: {scales[0]}
  scale_max: {scales[1]}
  rotate_min: -10
  rotate_max: 10
  ignore_label: 255
  padding_label: 255
  consist_init_epoch: 20
  reg_weight: 0.1
  train_gpu: {gpus}
  workers: 16
  batch_size: {batch}
  batch_size_val: 1
  base_lr: {rate}
  epochs: {epochs}
  start_epoch: 0
  power: 0.9
  momentum: 0.9
  weight_decay: 0.0001
  manual_seed: {seed}
  print_freq: 10
  save_freq: 1
  save_path: exp/{dataset}/published
  weight:
  resume:
  evaluate: True
  split: {split}
  shot: 1
  with_transformer: True
  fix_random_seed_val: True
  warmup: True
  use_coco: {coco}
  use_split_coco: {coco}
  resized_val: True
  ori_resize: True
Distributed:
  dist_url: tcp://127.0.0.1:6789
  dist_backend: 'nccl'
  multiprocessing_distributed: False
  world_size: 1
  rank: 0
  use_apex: False
  opt_level: 'O0'
  keep_batchnorm_fp32:
  loss_scale:
"""


class PublishedFile(NamedTuple):
    """What differs between the four files."""

    dataset: str
    split: int
    batch: int
    rate: float
    epochs: int
    seed: int
    scales: tuple[float, float]
    gpus: list[int]
    clusters: int | None

    @property
    def experiment(self) -> str:
        return "ssl_resnet50" if self.split == 5 else f"split{self.split}_resnet50"

    @property
    def text(self) -> str:
        cluster = "" if self.clusters is None else f"Cluster:\n  cluster_num: {self.clusters}"
        root = {"pascal": "../data/pascal", "coco": "../data/COCO2014"}[self.dataset]
        return PUBLISHED.format(
            **{**self._asdict(), "cluster": cluster, "root": root, "coco": str(self.dataset == "coco")}
        )


FILES = {
    "pascal_ssl": PublishedFile("pascal", 5, 4, 0.002, 200, 123, (0.9, 1.1), [0], 30),
    "pascal_split0": PublishedFile("pascal", 0, 4, 0.0001, 100, 123, (0.9, 1.1), [0], None),
    "coco_ssl": PublishedFile("coco", 5, 32, 0.01, 50, 321, (0.8, 1.25), [0, 1, 2, 3], 50),
    "coco_split0": PublishedFile("coco", 0, 16, 0.0025, 50, 321, (0.8, 1.25), [0], None),
}
WITHOUT_EFFECT = (
    "TRAIN.sync_bn, TRAIN.with_transformer, TRAIN.fix_random_seed_val, TRAIN.use_coco, TRAIN.start_epoch, "
    "TRAIN.resized_val, TRAIN.ori_resize, TRAIN.padding_label, TRAIN.reg_weight, TRAIN.consist_init_epoch, "
    "VIS.debug_vis, Distributed"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the real configurations and nothing beside it."""
    monkeypatch.setattr(config_module, "PROJECT", tmp_path / "project")
    shutil.copytree(PROJECT / "config", tmp_path / "project" / "config")
    return tmp_path / "project"


def load_published(project: Path, file: PublishedFile, *overrides: str) -> Config:
    name = f"{file.dataset}_{file.experiment}.yaml"
    (project / "config" / file.dataset / name).write_text(file.text)
    return load_config(file.dataset, file.experiment, overrides)


@pytest.fixture(autouse=True)
def _first_in_the_process() -> None:
    """As if no test before had logged the same lines."""
    warn_once.cache_clear()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("overrides", [(), ("TRAIN.compat=published",)])
def test_published_files_load_as_they_are(
    project: Path, messages: list[str], name: str, overrides: tuple[str, ...]
) -> None:
    file = FILES[name]
    config = load_published(project, file, *overrides)
    classes = {"pascal": 20, "coco": 80}[file.dataset]
    folder = {"pascal": "pascal", "coco": "COCO2014"}[file.dataset]
    assert messages == [
        f"config: DATA.classes=2 in {file.dataset}_{file.experiment}.yaml counts background and object; "
        f"taken: {classes} classes",
        f"config: keys without effect here: {WITHOUT_EFFECT}",
        f"config: DATA.data_root=../data/{folder} is not there, seen from the project's folder; "
        f"{project}/data/{folder} is taken",
    ]
    train, data = config.TRAIN, config.DATA
    assert (data.classes, data.data_root) == (classes, project / "data" / folder)
    assert data.train_list == project / "lists" / file.dataset / "train.txt"
    assert (train.batch_size, train.base_lr, train.epochs) == (file.batch, file.rate, file.epochs)
    assert (train.scale_min, train.scale_max) == file.scales
    assert (train.manual_seed, train.split, train.train_gpu) == (file.seed, file.split, file.gpus)
    assert (train.backbone, train.backbone_weights) == ("resnet50_v2", project / "initmodel" / "resnet50_v2.pth")
    assert (train.evaluate, train.use_split_coco, train.workers) == (True, file.dataset == "coco", 16)
    assert (train.weight, train.resume, config.run_folder) == (None, None, project / "exp" / file.dataset / "published")
    assert (config.Cluster.recipe, config.Cluster.cluster_num) == ("global", file.clusters or 50)
    assert not config.VIS.visualize


@pytest.mark.parametrize("name", FILES)
def test_our_files_have_the_published_values(project: Path, name: str) -> None:
    """Apart from what their headers name."""
    file = FILES[name]
    ours = load_config(file.dataset, file.experiment)
    theirs = load_published(project, file)
    different = [key for key, value in theirs.TRAIN if getattr(ours.TRAIN, key) != value]
    ssl, not_theirs = file.split == 5, ["contrast_residual", "workers", "save_path"]
    if file.dataset == "pascal":
        not_theirs.append("use_split_coco")  # read for COCO only
    if ssl:
        not_theirs.append("evaluate")
    if len(file.gpus) > 1:
        not_theirs.append("train_gpu")
    assert sorted(different) == sorted(not_theirs)
    assert ours.Cluster.cluster_num == theirs.Cluster.cluster_num or not ssl
    assert ours.DATA == theirs.DATA


def test_data_beside_the_project_are_found(project: Path, messages: list[str]) -> None:
    (project.parent / "data" / "pascal").mkdir(parents=True)
    config = load_published(project, FILES["pascal_ssl"])
    assert config.DATA.data_root.resolve() == project.parent / "data" / "pascal"
    assert not [message for message in messages if "data_root" in message]


def test_two_classes_are_two_classes(project: Path) -> None:
    """In a file that names its base, on the command line, and where the dataset has two."""
    file, folder = FILES["pascal_ssl"], project / "config" / "pascal"
    assert load_published(project, file, "DATA.classes=2").DATA.classes == 2
    (folder / "pascal_ssl_resnet50.yaml").write_text("base: [base.yaml]\nDATA: {classes: 2}\n")
    assert load("TRAIN.split=5").DATA.classes == 2
    (folder / "base.yaml").write_text("DATA: {classes: 2}\n")
    assert load_published(project, file).DATA.classes == 2
    (folder / "base.yaml").unlink()
    assert load_published(project, file).DATA.classes == 2


def test_layers_are_50_or_101() -> None:
    for value in ("152", "deep", "true", "[50]"):
        with pytest.raises(UserError, match=r"^TRAIN\.layers=.*: 50 or 101 expected"):
            load(f"layers={value}")


def test_every_key_of_the_published_code_is_a_word_too() -> None:
    words = [f"{key}=1" for key in ("sync_bn", "dist_url", "world_size", "opt_level", "loss_scale", "reg_weight")]
    assert load(*words) == load()


def test_keys_without_effect_are_reported_once(messages: list[str]) -> None:
    for _ in range(2):
        load("use_apex=true")
    assert len(messages) == 1
    load("use_apex=true", "debug_vis=true")
    assert messages[1:] == ["config: keys without effect here: TRAIN.use_apex, VIS.debug_vis"]


def test_key_without_effect_as_override() -> None:
    assert load("with_transformer=true", "Distributed.rank=0", "use_apex", "False") == load()


def test_compat_published_sets_its_settings_over_the_file() -> None:
    config = load_config("pascal", "ssl_mobilenetv2", ["TRAIN.compat=published"])
    assert (config.Cluster.recipe, config.Cluster.region_rule, config.Cluster.neighbours) == ("global", "span", 0)
    assert not config.TRAIN.support_self_attention
    assert not config.TRAIN.contrast_residual
    assert load_config("pascal", "ssl_mobilenetv2").TRAIN.contrast_residual


def test_the_command_line_takes_precedence_over_compat_published() -> None:
    """It validates after every epoch and keeps the best, unless the command line sets these keys."""
    train = load_config("pascal", "ssl_mobilenetv2", ["TRAIN.compat=published"]).TRAIN
    assert (train.evaluate, train.best_on_validation, train.lr_scale) == (True, True, 15)
    overrides = ["TRAIN.compat=published", "evaluate=false", "TRAIN.lr_scale=1", "use_apex=false"]
    train = load_config("pascal", "ssl_mobilenetv2", overrides).TRAIN
    assert (train.evaluate, train.best_on_validation, train.lr_scale) == (False, True, 1)
