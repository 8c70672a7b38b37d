"""The words of ``experiments.sh``: what they ask for, and one line for what makes no sense."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from commands.experiments.__main__ import main
from commands.experiments.request import check_lists
from tests.commands.experiments.small_study import study
from util.errors import UserError
from util.files import PROJECT

pytest_plugins = ["tests.workspace"]


def test_lists_are_beside_the_training_list(tmp_path: Path) -> None:
    lists = PROJECT / "lists" / "voc_mini"
    asked = study(tmp_path, f"DATA.train_list={lists}/train_all.txt", "--list", "20", str(tmp_path / "mine.txt"))
    assert asked.lists == {
        5: lists / "train_all_5.txt",
        10: lists / "train_all_10.txt",
        20: tmp_path / "mine.txt",
        100: lists / "train_all.txt",
    }
    assert asked.drawn == [5, 10]


def test_a_share_of_ones_own(tmp_path: Path) -> None:
    asked = study(tmp_path, "--list", "0.5", "few.txt", "--only", "tuned_0.5")
    assert (asked.lists, asked.drawn) == ({0.5: Path("few.txt").absolute()}, [])


def test_seeds_and_folder(tmp_path: Path) -> None:
    assert study(tmp_path, "--seeds", "3,1").seeds == [3, 1]
    coco = study(tmp_path, experiments="coco resnet50")
    assert (coco.seeds, coco.folder) == ([321], tmp_path / "coco_resnet50")
    assert study(tmp_path, "TRAIN.manual_seed=9").seeds == [9]


def test_missing_lists_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.txt: list not found; `python -m prepare` makes the lists"):
        check_lists(study(tmp_path, f"DATA.train_list={tmp_path}/train.txt"))
    for name in ("train.txt", "val.txt"):
        (tmp_path / name).touch()
    words = [f"DATA.train_list={tmp_path}/train.txt", f"DATA.val_list={tmp_path}/val.txt"]
    check_lists(study(tmp_path, *words))
    with pytest.raises(UserError, match=r"few\.txt: list not found"):
        check_lists(study(tmp_path, *words, "--list", "5", f"{tmp_path}/few.txt"))


MISTAKES = {
    "pascal": "the following arguments are required: family",
    "moon resnet50": "no dataset 'moon'",
    "pascal moon": "no experiment 'ssl_moon'",
    "pascal resnet50 TRAIN.epoch=1": "unknown key 'TRAIN.epoch'",
    "pascal resnet50 save_path=x": "TRAIN.save_path: every run has its own; leave it out",
    "pascal resnet50 TRAIN.seeds=[1]": "TRAIN.seeds: every run has its own",
    "pascal resnet50 --only nearest,none": "--only none: no such method",
    "pascal resnet50 --seeds 1,x": "argument --seeds: 'x' is not a whole number",
    "pascal resnet50 --seeds 1,1": "'1,1' are not different numbers",
    "pascal resnet50 --list many x": "--list 'many': percent of the labels expected, like 20",
    "pascal resnet50 --list 101 x": "--list '101': percent",
    "pascal resnet50 --jobs 0": "argument --jobs: 0 is not a number from 1",
    "pascal resnet50 --jobs 2 --gpus 0": "not allowed with argument --jobs",
    "pascal resnet50 --index 182": "--index 182: the plan has 181 runs",
    "pascal resnet50 --gpus 1000 DATA.train_list={list} DATA.val_list={list}": "GPUs that CUDA can use",
    "shapes demo DATA.classes=3": "TRAIN.split=3: 3 classes are too few for this fold",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_one_line(words: str, tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "list.txt").touch()
    arguments = words.format(list=tmp_path / "list.txt").split()
    assert MISTAKES[words] in fails(main, [*arguments, "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
