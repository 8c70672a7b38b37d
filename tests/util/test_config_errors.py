"""util.config: one line for everything that is wrong, with names and the likely intention."""

from collections.abc import Callable
from pathlib import Path

import pytest

from util.config import load_config
from util.errors import UserError

WriteConfig = Callable[[str], None]


def problems(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config("pascal", "ssl_resnet50", overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_empty_value_of_a_number_is_an_error() -> None:
    assert "TRAIN.epochs" in problems("epochs=")


def test_unknown_key_has_a_suggestion() -> None:
    assert "unknown key 'TRAIN.epoch' (did you mean TRAIN.epochs?)" in problems("TRAIN.epoch=3")
    assert "unknown key 'DATA.epochs' (did you mean TRAIN.epochs?)" in problems("DATA.epochs=3")
    assert "unknown key 'zzz'" in problems("zzz=3")
    assert "did you mean" not in problems("zzz=3")


def test_unknown_key_in_a_file(write_config: WriteConfig) -> None:
    write_config("TRAIN: {batchsize: 4}\nOther: {a: 1}")
    message = problems()
    assert "unknown key 'TRAIN.batchsize' (did you mean TRAIN.batch_size?)" in message
    assert "unknown key 'Other'" in message


def test_all_problems_are_listed_at_once() -> None:
    message = problems("epoch=3", "batch_size=many", "train_h=9", "scale_max=0.5", "split=4", "weight")
    for part in ("'epoch'", "TRAIN.batch_size='many'", "TRAIN.train_h=9", "TRAIN.scale_max must", "TRAIN.split=4"):
        assert part in message
    assert "'weight' has no value" in message


IMPOSSIBLE = """
epochs=-1, epochs=1.5, epochs={, epochs=a: b, batch_size=0, base_lr=0, base_lr=.inf, base_lr=.nan, momentum=1, shot=0,
rotate_max=-11, val_size=1, train_w=4, ignore_label=0, cluster_num=256, extractor=resnet, classes=255,
evaluate=maybe, mid_stages=[]
"""


@pytest.mark.parametrize("word", [word.strip() for word in IMPOSSIBLE.split(",")])
def test_impossible_values_are_named(word: str) -> None:
    assert f".{word.split('=')[0]}" in problems(word)


def test_missing_value_does_not_take_the_next_override() -> None:
    assert "'weight' has no value; write weight=VALUE" in problems("weight", "epochs=3")


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"no dataset 'voc'.*coco.*pascal.*shapes"):
        load_config("voc", "ssl_resnet50")
    with pytest.raises(UserError, match=r"no experiment 'split4_resnet50'.*split0_resnet50.*ssl_resnet50"):
        load_config("pascal", "split4_resnet50")
    with pytest.raises(UserError, match="no dataset"):
        load_config("../config/pascal", "ssl_resnet50")


@pytest.mark.parametrize(
    ("experiment", "split", "better"),
    [
        ("ssl_resnet50", 2, "split2_resnet50, or TRAIN.split=5"),
        ("split0_resnet50", 1, "split1_resnet50, or TRAIN.split=0"),
        ("split3_mobilenetv2", 5, "ssl_mobilenetv2, or TRAIN.split=3"),
    ],
)
def test_a_split_that_contradicts_the_name_is_refused(experiment: str, split: int, better: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config("pascal", experiment, [f"split={split}"])
    problem = f"TRAIN.split={split} contradicts the experiment's name; use {better}"
    assert str(caught.value) == f"configuration pascal {experiment}: {problem}"


def test_a_split_in_a_file_that_contradicts_its_name_is_refused(write_config: WriteConfig, tmp_path: Path) -> None:
    write_config("TRAIN: {split: 3}")
    assert "TRAIN.split=3 contradicts the experiment's name; use split3_resnet50, or TRAIN.split=5" in problems()
    folder = tmp_path / "config" / "pascal"
    (folder / "pascal_ssl_resnet50.yaml").rename(folder / "pascal_mine.yaml")
    assert load_config("pascal", "mine").TRAIN.split == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TRAIN: {a: [}", "not valid YAML"),
        ("TRAIN: 3", "'TRAIN' must be a section"),
        ("- a", "not valid YAML|expected the sections"),
    ],
)
def test_malformed_file_is_named(write_config: WriteConfig, text: str, message: str) -> None:
    write_config(text)
    with pytest.raises(UserError, match=rf"pascal_ssl_resnet50\.yaml: ({message})"):
        load_config("pascal", "ssl_resnet50")


def test_missing_or_malformed_base_is_named(tmp_path: Path, write_config: WriteConfig) -> None:
    file = tmp_path / "config" / "pascal" / "pascal_ssl_resnet50.yaml"
    file.write_text("base: [absent.yaml]")
    with pytest.raises(UserError, match=r"absent\.yaml: configuration file not found"):
        load_config("pascal", "ssl_resnet50")
    file.write_text("base: absent.yaml")
    with pytest.raises(UserError, match="base must be a list"):
        load_config("pascal", "ssl_resnet50")
