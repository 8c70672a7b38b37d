"""``TRAIN.seeds``: a run for each seed that is the run of that seed alone, tests on the same episodes, their spread."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import test as test_command
import train as train_command
from commands.seeds import training_runs
from engine.scores import read_scores
from model import load_model
from model.checkpoints import read_checkpoint
from tests.workspace import Workspace, equal
from util.config import load_config

pytest_plugins = ["tests.workspace"]
SHORT = ["TRAIN.epochs=1", "TRAIN.epoch_episodes=2", "VIS.visualize=false"]


def words(workspace: Workspace, run: str, *more: str, experiment: str = "ssl_demo") -> list[str]:
    return ["shapes", experiment, *workspace.overrides(run, *SHORT, *more)]


@pytest.fixture(scope="module")
def seeds(workspace: Workspace) -> Path:
    """The run folder of the seeds 5 and 6, which are trained and tested."""
    train_command.main(words(workspace, "seeds", "TRAIN.seeds=[5,6]"))
    test_command.main(words(workspace, "seeds", "TRAIN.seeds=[5,6]", experiment="split0_demo"))
    return workspace.root / "seeds"


def test_each_seed_is_the_run_of_that_seed_alone(
    workspace: Workspace, seeds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_command.main(words(workspace, "alone", "TRAIN.manual_seed=6"))
    of_five, of_six, alone = (load_model(folder / "latest.pth").state_dict() for folder in (
        seeds / "seed_5", seeds / "seed_6", workspace.root / "alone"
    ))  # fmt: skip
    assert equal(of_six, alone) and not equal(of_five, of_six)
    assert not (seeds / "latest.pth").exists()
    # Alone and with others, what is trained is left as it is, and what is not is trained.
    capsys.readouterr()
    train_command.main(words(workspace, "seeds/seed_6", "TRAIN.manual_seed=6"))
    train_command.main(words(workspace, "seeds", "TRAIN.seeds=[6,5]"))
    assert capsys.readouterr().err.count("nothing left to train") == 3


def test_all_seeds_are_tested_on_the_same_episodes(seeds: Path) -> None:
    tables = [[(row.slot, row.query) for row in read_scores(seeds / f"seed_{seed}")] for seed in (5, 6)]
    assert tables[0] == tables[1]
    protocols = [json.loads((seeds / f"seed_{seed}" / "results.json").read_text())["protocol"] for seed in (5, 6)]
    assert [protocol["seed"] for protocol in protocols] == [123, 123]
    assert [protocol["trained"] for protocol in protocols] == [f"shapes ssl_demo, 1 epochs, seed {n}" for n in (5, 6)]


def test_mean_and_spread_are_printed_and_kept(
    workspace: Workspace, seeds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for _ in range(2):
        capsys.readouterr()
        test_command.main(words(workspace, "seeds", "TRAIN.seeds=[5,6]", experiment="split0_demo"))
        files.append((seeds / "seeds.json").read_bytes())
    assert files[0] == files[1]
    results = json.loads(files[0])
    mious = [json.loads((seeds / f"seed_{seed}" / "results.json").read_text())["miou"] for seed in (5, 6)]
    assert results["miou"]["mean"] == pytest.approx(sum(mious) / 2)
    assert f"mIoU  {sum(mious) / 2:6.2f}  standard deviation" in capsys.readouterr().err


def test_each_seed_starts_from_its_own_checkpoint(workspace: Workspace, seeds: Path) -> None:
    weight = f"TRAIN.weight={seeds}"
    tuned = ["TRAIN.seeds=[6,5]", "DATA.min_area=20", weight]
    train_command.main(words(workspace, "tuned", *tuned, experiment="split0_demo"))
    stored = {seed: read_checkpoint(workspace.root / "tuned" / f"seed_{seed}" / "latest.pth") for seed in (5, 6)}
    for seed, checkpoint in stored.items():
        assert checkpoint["config"]["TRAIN"]["weight"] == str(seeds / f"seed_{seed}" / "latest.pth")
    test_command.main(
        words(workspace, "elsewhere", "TRAIN.seeds=[6]", weight, "TRAIN.episodes=2", experiment="split1_demo")
    )
    protocol: dict[str, Any] = json.loads((workspace.root / "elsewhere" / "seeds.json").read_text())["protocol"]
    assert (protocol["split"], protocol["episodes"]) == (1, 2)


def test_a_single_network_is_not_that_of_several_seeds(
    workspace: Workspace, seeds: Path, fails: Callable[..., str]
) -> None:
    weight = f"TRAIN.weight={seeds}/seed_5/latest.pth"
    message = fails(test_command.main, words(workspace, "one", "TRAIN.seeds=[5,6]", weight))
    assert "one network, but TRAIN.seeds names 2; give the run folder that holds seed_5/" in message
    message = fails(test_command.main, words(workspace, "seeds", "TRAIN.seeds=[7]"))
    assert f"{seeds}/seed_7/latest.pth: no checkpoint here" in message
    # A training may start all seeds from one network.
    config = load_config("shapes", "split0_demo", ["TRAIN.seeds=[5,6]", weight])
    assert [run.TRAIN.weight for run in training_runs(config)] == [seeds / "seed_5" / "latest.pth"] * 2


def test_a_folder_test_takes_one_network(workspace: Workspace, fails: Callable[..., str]) -> None:
    arguments = words(workspace, "seeds_folder", "TRAIN.seeds=[5,6]", "--every-photograph", experiment="split0_demo")
    assert "--every-photograph tests one network" in fails(test_command.main, arguments)


def test_methods_without_training_are_tested_once(workspace: Workspace) -> None:
    results = workspace.test("no_seeds", "TRAIN.seeds=[5,6]", "--method", "nearest")
    assert results["protocol"]["trained"] == "no"  # type: ignore[index]
