"""Trainings and tests in several processes: the numbers of one, and what they say when one of them ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.child_processes import children, read_until
from tests.workspace import Workspace
from util.files import PROJECT

pytest_plugins = ["tests.workspace"]
pytestmark = pytest.mark.slow


def start(script: str, arguments: list[str], processes: int) -> subprocess.Popen[str]:
    """A command of several processes."""
    return subprocess.Popen(
        ["sh", str(PROJECT / script), "shapes", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "NPROC": str(processes)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(script: str, arguments: list[str], processes: int) -> str:
    """What a command says on stderr; it succeeds."""
    process = start(script, arguments, processes)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    return said


def epochs(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [epoch["loss"] for epoch in epochs(folder)]


@pytest.mark.parametrize("experiment", ["ssl_demo", "split0_demo"])
def test_two_processes_learn_what_one_learns(workspace: Workspace, experiment: str) -> None:
    """Twenty steps, each an epoch of its own, which is a line of its own in the log; and validations."""
    validation = ["TRAIN.evaluate=true", "TRAIN.evaluate_every=10"] if experiment == "split0_demo" else []
    words = ["TRAIN.batch_size=4", "TRAIN.epochs=20", "VIS.visualize=false", *validation]
    runs = [f"{number}_processes_{experiment}" for number in (1, 2)]
    for number, name in enumerate(runs, start=1):
        said = run("train.sh", [experiment, *workspace.overrides(name, *words)], number)
        assert ("on cpu in 2 processes: epochs 1 to 20 of 1 steps" in said) == (number == 2)
        assert said.count("iteration 20/20") == 1
    one, two = (losses(workspace.root / name) for name in runs)
    assert len(one) == 20 and two == pytest.approx(one, rel=1e-5)
    validated = [
        [epoch["epoch"] for epoch in epochs(workspace.root / name) if "validation_miou" in epoch] for name in runs
    ]
    assert validated == [[10, 20] if validation else []] * 2


def test_parts_learn_what_the_batch_learns(workspace: Workspace) -> None:
    words = ["TRAIN.batch_size=4", "TRAIN.epochs=20", "VIS.visualize=false"]
    for parts in (1, 4):
        workspace.train(f"accumulate_{parts}", *words, f"TRAIN.accumulate={parts}")
    assert losses(workspace.root / "accumulate_4") == pytest.approx(losses(workspace.root / "accumulate_1"), rel=1e-5)


def test_processes_test_as_one(workspace: Workspace) -> None:
    """25 episodes in batches of 3: the last batch is not full, and three processes have unequal shares."""
    workspace.train("to_be_tested", "TRAIN.epochs=1")
    words = [f"TRAIN.weight={workspace.root}/to_be_tested/latest.pth", "TRAIN.episodes=25", "TRAIN.batch_size_val=3"]
    files: list[dict[str, bytes]] = []
    for number in (1, 3):
        folder = workspace.root / f"tested_by_{number}"
        said = run("test.sh", ["split0_demo", *workspace.overrides(folder.name, *words)], number)
        assert said.count("results in") == 1
        files.append({path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".test.lock"})
    assert {*files[0]} == {"results.json", "episodes.csv", "examples.png", "worst.png"}
    assert [name for name in files[0] if files[0][name] != files[1].get(name)] == []


def test_processes_test_every_photograph_as_one(workspace: Workspace) -> None:
    lines = (workspace.root / "lists" / "val.txt").read_text().splitlines()[:16]
    (workspace.root / "lists" / "sixteen.txt").write_text("\n".join(lines) + "\n")
    words = [f"DATA.val_list={workspace.root}/lists/sixteen.txt", "TRAIN.class_scores=true"]
    words += [f"TRAIN.backbone_weights={workspace.weights}", "--method", "nearest", "--every-photograph"]
    files: list[dict[str, bytes]] = []
    for number in (1, 3):
        folder = workspace.root / f"every_photograph_by_{number}"
        run("test.sh", ["split0_demo", *workspace.overrides(folder.name, *words)], number)
        files.append({path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".test.lock"})
    assert {*files[0]} == {"results.json", "photographs.csv"} and files[0] == files[1]


def test_a_run_goes_on_with_another_number_of_processes(workspace: Workspace) -> None:
    words = ["TRAIN.batch_size=4", "TRAIN.epochs=6", "VIS.visualize=false", "TRAIN.save_minutes=0.00001"]
    workspace.train("one_number", *words)
    arguments = ["ssl_demo", *workspace.overrides("other_number", *words, "TRAIN.epoch_episodes=4")]
    process = start("train.sh", arguments, 2)
    read_until(process, "iteration 3/6")
    process.terminate()
    said = process.communicate()[1]
    assert process.returncode == 143 and re.search(r"^interrupted: saved after step 1 of epoch", said, re.MULTILINE)
    workspace.train("other_number", *words)
    folders = [workspace.root / name for name in ("one_number", "other_number")]
    assert losses(folders[1]) == pytest.approx(losses(folders[0]), rel=1e-5)


def test_a_process_that_is_killed_ends_all_with_one_line(workspace: Workspace) -> None:
    process = start("train.sh", ["ssl_demo", *workspace.overrides("killed", "TRAIN.epochs=500")], 2)
    read_until(process, "  loss ")
    os.kill(children(process.pid)[1], signal.SIGKILL)
    said = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 128 + signal.SIGKILL
    errors = [line for line in said if not re.match(r"\d\d:\d\d:\d\d ", line)]
    assert len(errors) == 1 and errors[0].startswith("error: process 1 of 2 was killed by SIGKILL")


def test_mistakes_are_one_line(workspace: Workspace) -> None:
    """Of all processes, wherever it is noticed: by all of them at the start, by one in the middle of a training."""
    picture = next((workspace.root / "shapes" / "JPEGImages").iterdir())
    content = picture.read_bytes()
    mistakes = {
        "TRAIN.batch_size=4": (3, "TRAIN.batch_size=4 cannot be divided by 3 processes"),
        "TRAIN.compat=published": (2, "TRAIN.compat=published: draws for one episode after the other"),
        "TRAIN.epochs=50": (2, picture.name),
    }
    for word, (processes, expected) in mistakes.items():
        picture.write_bytes(b"" if expected == picture.name else content)
        words = ["TRAIN.epoch_episodes=80", word]
        process = start("train.sh", ["split0_demo", *workspace.overrides("mistaken", *words)], processes)
        said = process.communicate(timeout=120)[1].splitlines()
        errors = [line for line in said if line and not re.match(r"\d\d:\d\d:\d\d |label areas", line)]
        assert process.returncode == 2 and len(errors) == 1 and expected in errors[0], said
    picture.write_bytes(content)


def test_a_second_command_in_a_run_folder_is_refused(workspace: Workspace) -> None:
    overrides = workspace.overrides("taken_by_processes", "TRAIN.epochs=500")
    first = start("train.sh", ["ssl_demo", *overrides], 2)
    read_until(first, "  loss ")
    second = start("train.sh", ["ssl_demo", *overrides], 2)
    said = second.communicate()[1]
    first.terminate()
    first.communicate()
    assert second.returncode == 2 and re.search(r"^error: .*process \d+ is working here", said, re.MULTILINE)
