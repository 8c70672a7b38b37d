"""util.config: files and overrides of the published code keep their meaning."""

from collections.abc import Callable
from pathlib import Path

import pytest

from util import published_keys
from util.config import load_config
from util.schema import Config

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


PUBLISHED = """
DATA: {data_root: ../data/pascal, train_list: lists/train.txt, val_list: lists/val.txt, classes: 20}
Cluster: {cluster_num: 30}
VIS: {debug_vis: False, visualize: False}
TRAIN:
  layers: 50
  train_h: 473
  train_w: 473
  val_size: 473
  hidden_dims: 256
  scale_min: 0.9
  scale_max: 1.1
  rotate_min: -10
  rotate_max: 10
  ignore_label: 255
  padding_label: 255
  train_gpu: [0]
  workers: 8
  batch_size: 4
  batch_size_val: 1
  base_lr: 0.002
  epochs: 200
  start_epoch: 0
  power: 0.9
  momentum: 0.9
  weight_decay: 0.0001
  manual_seed: 123
  print_freq: 10
  save_freq: 1
  save_path: exp/pascal/ssl
  weight:
  resume:
  evaluate: True
  split: 5
  shot: 1
  with_transformer: True
  fix_random_seed_val: True
  warmup: True
  use_coco: False
  use_split_coco: False
  resized_val: True
  ori_resize: True
Distributed: {dist_url: "tcp://127.0.0.1:6789", world_size: 1, rank: 0, use_apex: True}
"""


WITHOUT_EFFECT = (
    "TRAIN.with_transformer, TRAIN.fix_random_seed_val, TRAIN.use_coco, TRAIN.start_epoch, TRAIN.resized_val, "
    "TRAIN.ori_resize, TRAIN.padding_label, VIS.debug_vis, Distributed"
)


@pytest.fixture(autouse=True)
def _first_in_the_process() -> None:
    """As if no test before had reported the same keys."""
    published_keys._warn_of_no_effect.cache_clear()


@pytest.mark.parametrize("overrides", [(), ("TRAIN.compat=published",)])
def test_published_file_loads_and_reports_keys_without_effect(
    write_config: WriteConfig, messages: list[str], overrides: tuple[str, ...]
) -> None:
    write_config(PUBLISHED)
    config = load(*overrides)
    assert config.TRAIN.hidden_dims == 256
    assert messages == [f"config: keys without effect here: {WITHOUT_EFFECT}"]


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
