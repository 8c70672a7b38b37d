"""Run folders: what continues a run, who may work in one, and interruptions."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

import pytest
import torch
import yaml

import test as test_command
import train as train_command
from engine import epoch
from model.checkpoints import read_checkpoint
from tests.child_processes import descendants, read_until
from tests.workspace import Workspace, equal
from util.errors import run_command
from util.files import PROJECT, read_json, write_json

pytest_plugins = ["tests.workspace"]
_STEPS = 12  # of an epoch of the runs that are killed
_LOCK_HOLDER = """
import sys, time
from pathlib import Path
from util.locks import only_process_in
with only_process_in(Path(sys.argv[1]), sys.argv[2]):
    print(flush=True)
    time.sleep(60)
"""


@contextmanager
def signal_after_each_step(number: signal.Signals) -> Iterator[None]:
    """Send a signal to this process after every step of a training."""
    step = epoch._train_step

    def step_and_signal(*arguments: Any) -> object:
        metrics = step(*arguments)
        os.kill(os.getpid(), number)
        return metrics

    with patch("engine.epoch._train_step", step_and_signal):
        yield


def tensors(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights and the averages of the optimizers."""
    states = checkpoint["optimizers"]
    averages = {
        f"{optimizer} {number} {name}": value
        for optimizer in states
        for number, state in states[optimizer]["state"].items()
        for name, value in state.items()
    }
    return {**checkpoint["model"], **averages}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "words"),
    [
        ("ssl_demo", []),
        ("split0_demo", []),
        ("split0_demo", ["TRAIN.compat=published", "TRAIN.workers=1"]),
        ("ssl_demo", ["TRAIN.views=2", "TRAIN.workers=1"]),
    ],
    ids=["unsupervised", "supervised", "published", "views"],
)
def test_a_run_that_is_interrupted_after_every_step(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], experiment: str, words: list[str]
) -> None:
    """It ends with the weights, the optimizers and the log of an uninterrupted run.

    The published experiments are validated: after the last step that is still to be done.
    """
    is_validated = "TRAIN.compat=published" in words
    words = ["TRAIN.epochs=1", "TRAIN.epoch_episodes=6", "TRAIN.print_freq=2", "VIS.visualize=false", *words]
    runs = [f"{name}_{experiment}_{words[-2]}" for name in ("whole", "interrupted")]
    workspace.train(runs[0], *words, experiment=experiment)
    arguments = ["shapes", experiment, *workspace.overrides(runs[1], *words)]
    said = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        with signal_after_each_step(number), pytest.raises(SystemExit) as stop:
            run_command(train_command.main, arguments)
        assert stop.value.code == 128 + number
        said.append(capsys.readouterr().err.splitlines()[-1])
    first, second, third = (
        f"interrupted: saved after step {step} of epoch 1; the same command continues there" for step in (1, 2, 3)
    )
    assert said == [first, second, third if is_validated else "interrupted: all 1 epochs are trained and saved"]
    train_command.main(arguments)
    whole, interrupted = (read_checkpoint(workspace.root / run / "latest.pth") for run in runs)
    assert equal(tensors(whole), tensors(interrupted)) and "position" not in interrupted
    logs = [(workspace.root / run / "epochs.jsonl").read_text() for run in runs]
    assert logs[0] == logs[1]
    log = (workspace.root / runs[1] / "log.txt").read_text()
    assert re.findall(r"continuing after step (\d) of epoch 1", log) == ["1", "2", "3"][: 3 if is_validated else 2]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("experiment", ["ssl_demo", "split0_demo"])
def test_a_run_that_is_killed_at_random_moments(workspace: Workspace, experiment: str, processes: int) -> None:
    """It ends with the weights and the log of an uninterrupted run, and every line that it says is true."""
    signals = [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL]
    if processes == 1:  # several take three times as long to start; in all, twenty are sent
        signals += [signal.SIGINT, signal.SIGKILL, signal.SIGINT, signal.SIGTERM]
    kill_again_and_again(workspace, experiment, processes, signals, save_minutes=0.0005)


def kill_again_and_again(
    workspace: Workspace,
    experiment: str,
    processes: int,
    signals: list[signal.Signals],
    *,
    save_minutes: float,
    seconds: float = 0.3,
    epochs: int = 5,
) -> list[float]:
    """Train, with each of ``signals`` at a random moment of the ``seconds`` after the first line of the log.

    Returns the seconds of work that each has lost: those since the last save, or since that line.
    """
    words = [
        f"TRAIN.epochs={epochs}",
        f"TRAIN.epoch_episodes={2 * _STEPS}",
        "TRAIN.print_freq=2",
        "TRAIN.workers=1",
        "TRAIN.save_freq=5",
        "TRAIN.evaluate=false",
    ]
    names = [f"{verb}_killed_{experiment}_{processes}" for verb in ("never", "often")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NPROC": str(processes)}
    command = ["sh", str(PROJECT / "train.sh"), "shapes", experiment]
    subprocess.run([*command, *workspace.overrides(names[0], *words)], env=environment, check=True)
    random_moment, (whole, folder) = random.Random(1), (workspace.root / name for name in names)
    command += workspace.overrides(folder.name, *words, f"TRAIN.save_minutes={save_minutes}")
    lost = []
    for number in signals:
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        read_until(process, "  loss ")
        began = time.time()
        time.sleep(random_moment.uniform(0, seconds))
        if number == signal.SIGUSR1:
            process.send_signal(number)
            read_until(process, "saved after step")
            number = signal.SIGKILL
        saved = [path.stat().st_mtime for path in [folder / "latest.pth"] if path.exists()]
        lost.append(time.time() - max(began, *saved, 0))
        last = end(process, number)
        if number != signal.SIGKILL:
            assert process.returncode == 128 + number
            checkpoint = read_checkpoint(folder / "latest.pth")
            position = checkpoint.get("position") or {"step": _STEPS}
            place = f"step {position['step']} of epoch {checkpoint['epoch'] + ('position' in checkpoint)}"
            assert last == f"interrupted: saved after {place}; the same command continues there"
    subprocess.run(command, env=environment, check=True)
    first, second = (read_checkpoint(run / "latest.pth") for run in (whole, folder))
    assert equal(tensors(first), tensors(second))
    assert (folder / "epochs.jsonl").read_text() == (whole / "epochs.jsonl").read_text()
    assert not list(folder.glob(".*.pth.*"))
    assert all(path.stat().st_size for path in (folder / "tensorboard").iterdir())
    return lost


def end(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal, KILL to all processes of a training; returns the last line that they say, if any."""
    victims = descendants(process.pid) if number == signal.SIGKILL else []
    for victim in [*victims, process.pid]:
        with suppress(ProcessLookupError):
            os.kill(victim, number)
    return "".join(process.communicate()[1].splitlines()[-1:])


def test_a_test_of_a_run_within_an_epoch_says_so(workspace: Workspace) -> None:
    arguments = ["shapes", "ssl_demo", *workspace.overrides("within", "TRAIN.epoch_episodes=6")]
    with signal_after_each_step(signal.SIGINT), pytest.raises(KeyboardInterrupt):
        train_command.main(arguments)
    protocol = workspace.test("within")["protocol"]
    assert isinstance(protocol, dict) and protocol["trained"] == "shapes ssl_demo, 0 epochs and 1 of 3 steps, seed 123"


def test_the_advice_after_a_loss_that_is_not_finite(workspace: Workspace, fails: Callable[..., str]) -> None:
    """It holds with a checkpoint of before and without one."""
    workspace.train("before_nan", "TRAIN.epochs=1")
    weight = f"TRAIN.weight={workspace.root}/before_nan/latest.pth"
    for word in ("TRAIN.weight=", weight):
        fast = ["TRAIN.base_lr=1000", "TRAIN.lr_scale=1000", "TRAIN.epoch_episodes=40", "TRAIN.print_freq=1"]
        overrides = workspace.overrides("nan", "TRAIN.epochs=1", *fast, word)
        message = fails(train_command.main, ["shapes", "ssl_demo", *overrides])
        assert "use a smaller TRAIN.base_lr or TRAIN.transformer_lr and another TRAIN.save_path; " in message
        workspace.train(f"after_nan{len(word)}", "TRAIN.epochs=1", word)


def test_another_config_in_the_same_run_folder(workspace: Workspace, fails: Callable[..., str]) -> None:
    workspace.train("taken")
    overrides = workspace.overrides("taken", "TRAIN.base_lr=0.5", "TRAIN.print_freq=3")
    message = fails(train_command.main, ["shapes", "ssl_demo", *overrides])
    assert "TRAIN.base_lr is 0.002 there, 0.5 expected" in message
    assert "print_freq" not in message


def test_finished_run_has_nothing_left_to_do(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.train("finished")
    run, other = workspace.root / "finished", workspace.root / "finished_elsewhere"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name not in ("log.txt", ".lock")}
    capsys.readouterr()
    workspace.train("finished")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list((run / "tensorboard").iterdir())) == 1
    last_line = f"nothing left to train: {run / 'latest.pth'} has all 2 epochs"
    assert capsys.readouterr().err.splitlines()[-1].endswith(last_line)
    train_command.main(["shapes", "ssl_demo", *workspace.overrides(other.name, f"TRAIN.resume={run}/latest.pth")])
    assert capsys.readouterr().err.splitlines()[-1].endswith(last_line)
    assert not (other / "latest.pth").exists()


def test_a_run_goes_on_with_its_own_data_only(workspace: Workspace, fails: Callable[..., str]) -> None:
    """A list and pseudo masks that are no longer those that the run began with, under the same names."""
    lists = [workspace.root / name for name in ("list.txt", "pseudo")]
    lists[0].write_text((workspace.root / "lists" / "train.txt").read_text())
    shutil.copytree(workspace.root / "shapes" / "shapes_mobilenetv2_035_pseudo", lists[1])
    words = {
        "split0_demo": ["TRAIN.epochs=1", f"DATA.train_list={lists[0]}"],
        "ssl_demo": ["TRAIN.epochs=1", f"Cluster.pseudo_folder={lists[1]}"],
    }
    for experiment, more in words.items():
        workspace.train(f"own_data_{experiment}", *more, experiment=experiment)
    lists[0].write_text("\n".join(lists[0].read_text().splitlines()[:-1]))
    write_json(lists[1] / "manifest.json", {**read_json(lists[1] / "manifest.json"), "software": {}})
    for experiment, names in (("split0_demo", ("train_list", "labels")), ("ssl_demo", ("pseudo_masks",))):
        overrides = workspace.overrides(f"own_data_{experiment}", *words[experiment])
        message = fails(train_command.main, ["shapes", experiment, *overrides])
        assert re.findall(r"training_data\.(\w+) is \w{12} there, \w{12} expected", message) == [*names]


@pytest.mark.parametrize("content", [b"- 1", b"\xff\x00\x80"])
def test_the_configuration_in_a_run_folder_is_for_people(workspace: Workspace, content: bytes) -> None:
    """What decides is the checkpoint; a broken file is replaced."""
    file = workspace.root / "described" / "config.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    workspace.train("described", "TRAIN.epochs=1")
    assert yaml.safe_load(file.read_text())["TRAIN"]["epochs"] == 1
    shutil.rmtree(file.parent)


def test_a_start_that_fails_claims_nothing(workspace: Workspace, fails: Callable[..., str]) -> None:
    """The advice can be followed in the same folder."""
    for word in ("TRAIN.batch_size=64", "TRAIN.train_h=66", f"TRAIN.backbone_weights={workspace.root}/gone.pth"):
        fails(train_command.main, ["shapes", "ssl_demo", *workspace.overrides("failed_start", word)])
        assert not (workspace.root / "failed_start" / "config.yaml").exists()
    workspace.train("failed_start", "TRAIN.epochs=1")


def test_places_that_cannot_be_a_run_folder(workspace: Workspace, fails: Callable[..., str]) -> None:
    (workspace.root / "file").touch()
    places = {"/proc/here": "no folder can be made here", f"{workspace.root}/file": "a folder is needed here"}
    for place, reason in places.items():
        message = fails(train_command.main, ["shapes", "ssl_demo", *workspace.overrides("x", f"save_path={place}")])
        assert message.startswith(f"error: {place}: ") and reason in message


def test_one_training_and_one_test_at_a_time_in_a_run_folder(workspace: Workspace, fails: Callable[..., str]) -> None:
    """A test may look at what a training has saved so far."""
    folder = workspace.root / "taken_by_two"
    for lock, main, experiment in (
        (".lock", train_command.main, "ssl_demo"), (".test.lock", test_command.main, "split0_demo"),
    ):  # fmt: skip
        arguments = [experiment, *workspace.overrides("taken_by_two", "TRAIN.epochs=1")]
        holder = subprocess.Popen(
            [sys.executable, "-c", _LOCK_HOLDER, str(folder), lock], cwd=PROJECT, stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        message = fails(main, ["shapes", *arguments])
        holder.kill()
        holder.communicate()
        assert message == f"error: {folder}: process {holder.pid} is working here; wait for it or choose another folder"
        main(["shapes", *arguments])
