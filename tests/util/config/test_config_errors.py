"""util.config: one line for everything that is wrong, with names and the likely intention."""

from collections.abc import Callable
from pathlib import Path

import pytest

from util.config import load_config
from util.errors import UserError
from util.files import PROJECT

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
evaluate=maybe, mid_stages=[], seeds=3, seeds=[-1], seeds=[a]
"""


@pytest.mark.parametrize("word", [word.strip() for word in IMPOSSIBLE.split(",")])
def test_impossible_values_are_named(word: str) -> None:
    assert f".{word.split('=')[0]}" in problems(word)


def test_seeds_that_contradict() -> None:
    assert "TRAIN.seeds is [1, 2, 1], different numbers expected" in problems("seeds=[1,2,1]")
    contradiction = "TRAIN.resume names one run, TRAIN.seeds several; leave one of them empty"
    assert contradiction in problems("seeds=[1]", "resume=a.pth")


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


def test_a_key_that_occurs_twice_is_named(write_config: WriteConfig) -> None:
    for text in ("TRAIN: {epochs: 3, epochs: 4}", "TRAIN: {epochs: 3}\nTRAIN: {batch_size: 3}"):
        write_config(text)
        with pytest.raises(UserError, match=r"pascal_ssl_resnet50\.yaml: .*the key '(epochs|TRAIN)' occurs twice"):
            load_config("pascal", "ssl_resnet50")


@pytest.mark.parametrize("text", ["0", "false", "''", "[]", "2001-01-01"])
def test_a_file_without_sections_is_named(write_config: WriteConfig, tmp_path: Path, text: str) -> None:
    write_config("")
    (tmp_path / "config" / "pascal" / "pascal_ssl_resnet50.yaml").write_text(text)
    with pytest.raises(UserError, match=r"pascal_ssl_resnet50\.yaml: expected the sections"):
        load_config("pascal", "ssl_resnet50")


@pytest.mark.parametrize("value", ["010", "0x10", "yes", "1:30", "2001-01-01", "1_000", "'8'", "true"])
def test_values_of_a_file_mean_what_they_mean_on_the_command_line(write_config: WriteConfig, value: str) -> None:
    write_config(f"TRAIN: {{epochs: {value}}}")
    if value == "010":
        assert load_config("pascal", "ssl_resnet50").TRAIN.epochs == 10
    else:
        assert "a whole number expected" in problems()


def test_words_of_earlier_yaml_are_names_of_files(write_config: WriteConfig, tmp_path: Path) -> None:
    write_config("TRAIN: {weight: 2001-01-01, save_path: on}")
    train = load_config("pascal", "ssl_resnet50").TRAIN
    assert (train.weight, train.save_path) == (tmp_path / "2001-01-01", tmp_path / "on")


def test_missing_or_malformed_base_is_named(tmp_path: Path, write_config: WriteConfig) -> None:
    file = tmp_path / "config" / "pascal" / "pascal_ssl_resnet50.yaml"
    file.write_text("base: [absent.yaml]")
    with pytest.raises(UserError, match=r"absent\.yaml: configuration file not found"):
        load_config("pascal", "ssl_resnet50")
    for base in ("absent.yaml", "[3]", "[null]", "[[a.yaml]]", "{a: b}"):
        file.write_text(f"base: {base}")
        with pytest.raises(UserError, match="base must be a list"):
            load_config("pascal", "ssl_resnet50")
    for base in (".", "..", "/dev/zero"):
        file.write_text(f"base: [{base}]")
        with pytest.raises(UserError, match="not a file; a YAML file is expected here"):
            load_config("pascal", "ssl_resnet50")


def test_a_file_that_is_its_own_base_is_named(tmp_path: Path, write_config: WriteConfig) -> None:
    folder = tmp_path / "config" / "pascal"
    (folder / "a.yaml").write_text("base: [b.yaml]")
    (folder / "b.yaml").write_text("base: [../pascal/a.yaml]")
    (folder / "link.yaml").symlink_to(folder / "pascal_ssl_resnet50.yaml")
    for base in ("pascal_ssl_resnet50.yaml", "link.yaml", "a.yaml"):
        (folder / "pascal_ssl_resnet50.yaml").write_text(f"base: [{base}]")
        with pytest.raises(UserError, match=r"\.yaml: is its own base, over .*\.yaml; remove one of these"):
            load_config("pascal", "ssl_resnet50")


def test_two_files_may_share_a_base(tmp_path: Path, write_config: WriteConfig) -> None:
    write_config("")
    folder = tmp_path / "config" / "pascal"
    base = PROJECT / "config" / "pascal" / "base.yaml"
    for name in ("a", "b"):
        (folder / f"{name}.yaml").write_text(f"base: [{base}]")
    (folder / "pascal_ssl_resnet50.yaml").write_text("base: [a.yaml, b.yaml]")
    assert load_config("pascal", "ssl_resnet50").DATA.classes == 20
