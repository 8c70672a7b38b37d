"""The table of runs: how many, what each needs, and that each command says what its name does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from commands.experiments.methods import TRAININGS, Training
from commands.experiments.runs import Run, all_runs
from tests.commands.experiments.small_study import study
from util.config import Config, load_config
from util.files import PROJECT


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Of PASCAL with ResNet-50 and two seeds."""
    return {run.name: run for run in all_runs(study(tmp_path_factory.mktemp("out"), "--seeds", "1,2"))}


def config_of(run: Run) -> Config:
    """The configuration that its command reads."""
    _, script, dataset, experiment, *words = run.command
    assert script in (str(PROJECT / "train.sh"), str(PROJECT / "test.sh"))
    words = [word for place, word in enumerate(words) if "--method" not in (word, words[place - 1])]
    return load_config(dataset, experiment, words)


def test_the_number_of_runs(runs: dict[str, Run], tmp_path: Path) -> None:
    """Four folds, one and five shots: 3 methods without training, the unsupervised one, 3 trainings on 4 shares."""
    kinds = Counter(Path(run.command[1]).name for run in runs.values())
    trainings, tests = 2 * (1 + 3 * 4 * 4), 3 * 4 * 2 + 2 * (1 + 3 * 4) * 4 * 2
    assert kinds == {"create.sh": 1, "launch.py": 3, "train.sh": trainings, "test.sh": tests}
    assert len(all_runs(study(tmp_path))) == 1 + 3 + (1 + 48) + (24 + 104) == 181
    assert len(all_runs(study(tmp_path, "--only", "nearest"))) == 8
    only = [run.name for run in all_runs(study(tmp_path, "--only", "tuned_20"))]
    joint = [run.name for run in all_runs(study(tmp_path, "--only", "joint_20"))]
    assert joint[:2] == ["masks", "lists/20"] and len(joint) == 2 + 4 + 8
    assert only[:3] == ["masks", "lists/20", "unsupervised/seed_123"] and len(only) == 3 + 4 + 8


def test_needs_come_in_earlier_stages(runs: dict[str, Run]) -> None:
    assert [run.stage for run in runs.values()] == sorted(run.stage for run in runs.values())
    for run in runs.values():
        assert run.stage == 1 + max((runs[need].stage for need in run.needs), default=0)
    needs = {
        "masks": (),
        "nearest/fold0_1shot": (),
        "unsupervised/seed_2": ("masks",),
        "unsupervised/fold3_5shot/seed_2": ("unsupervised/seed_2",),
        "scratch_20/fold1/seed_1": ("lists/20",),
        "scratch_100/fold1/seed_1": (),
        "tuned_20/fold1/seed_1": ("lists/20", "unsupervised/seed_1"),
        "joint_20/fold1/seed_1": ("lists/20", "masks"),
        "joint_100/fold1/seed_1": ("masks",),
        "tuned_20/fold1_5shot/seed_1": ("tuned_20/fold1/seed_1",),
    }
    assert {name: runs[name].needs for name in needs} == needs


def test_a_network_is_read_where_the_run_that_is_needed_leaves_it(runs: dict[str, Run]) -> None:
    for run in runs.values():
        if run.command[0] == "sh" and not run.command[1].endswith("create.sh"):
            config = config_of(run)
            assert config.run_folder == run.folder == run.product.parent
            networks = [runs[need].product for need in run.needs if runs[need].product.suffix == ".pth"]
            assert networks == ([config.TRAIN.weight] if config.TRAIN.weight else [])


def test_commands_do_what_the_names_say(runs: dict[str, Run]) -> None:
    tuned = config_of(runs["tuned_20/fold1/seed_2"])
    assert (tuned.experiment, tuned.TRAIN.manual_seed) == ("split1_resnet50", 2)
    assert tuned.DATA.train_list == PROJECT / "lists" / "pascal" / "train_20.txt"
    assert not tuned.uses_pseudo_masks
    joint = config_of(runs["joint_20/fold1/seed_2"])
    assert joint.TRAIN.pseudo_share == 0.5 and joint.DATA.train_list == tuned.DATA.train_list
    assert joint.DATA.pseudo_list == load_config("pascal", "ssl_resnet50").DATA.train_list
    assert joint.pseudo_folder / "manifest.json" == runs["masks"].product
    unsupervised = config_of(runs["unsupervised/seed_2"])
    assert (unsupervised.experiment, unsupervised.TRAIN.manual_seed) == ("ssl_resnet50", 2)
    for name in ("unsupervised/fold3_5shot/seed_2", "scratch_100/fold3_5shot/seed_1", "nearest/fold3_5shot"):
        test = config_of(runs[name])
        assert (test.experiment, test.TRAIN.shot) == ("split3_resnet50", 5)
        assert test.TRAIN.manual_seed == 123  # all are tested on the same episodes
    assert runs["nearest/fold3_5shot"].command.count("--method") == 1
    masks = load_config("pascal", "ssl_resnet50", [word for word in runs["masks"].command[4:] if "exper" not in word])
    assert runs["masks"].product == masks.pseudo_folder / "manifest.json"


def test_another_training_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/experiments.md says."""
    line = Training("longer", "supervised, for longer", start="unsupervised", words=("TRAIN.epochs=7",))
    monkeypatch.setattr("commands.experiments.methods.TRAININGS", (*TRAININGS, line))
    runs = {run.name: run for run in all_runs(study(tmp_path, "TRAIN.epochs=3", "--only", "longer_20,scratch_20"))}
    assert [config_of(runs[f"{name}_20/fold1/seed_123"]).TRAIN.epochs for name in ("longer", "scratch")] == [7, 3]
    assert runs["longer_20/fold1/seed_123"].needs == ("lists/20", "unsupervised/seed_123")
    assert runs["longer_20/fold1_1shot/seed_123"].needs == ("longer_20/fold1/seed_123",)


def test_words_reach_every_run_and_decide_what_it_is(runs: dict[str, Run], tmp_path: Path) -> None:
    plain, again, other, workers = (
        {run.name: run.settings for run in all_runs(study(tmp_path, "--seeds", "1", *words))}
        for words in ([], [], ["TRAIN.val_size=353"], ["TRAIN.workers=9"])
    )
    assert plain == again == workers
    assert [name for name in plain if plain[name] == other[name]] == ["lists/5", "lists/10", "lists/20"]
    trainings = [run.settings for run in runs.values() if run.product.suffix == ".pth"]
    assert len(set(trainings)) == len(trainings)  # weights, lists, folds and seeds tell them apart
