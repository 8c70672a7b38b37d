"""Faults of the machine in the middle of a training: one line says what happened, and the same command goes on."""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pytest
import torch

import train as train_command
from engine.run_folder import BEST, LATEST, PREVIOUS
from model import load_model
from model.checkpoints import read_checkpoint
from tests.child_processes import children
from tests.engine.test_trainer import points
from tests.small_disk import mounted_disk
from tests.test_runs import signal_after_each_step
from tests.time_limit import time_limit
from tests.workspace import Workspace, equal
from util.errors import run_command
from util.files import PROJECT
from util.logging import start_logging

pytest_plugins = ["tests.workspace"]
_OWN_MAPPING = -3  # M_MMAP_THRESHOLD of the GNU C library
_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS of Linux


class Ending(NamedTuple):
    """Exit code and last line on stderr of a process."""

    code: int | None
    line: str


class Training:
    """The command in a process of its own, forked to spare the imports; ``prepare`` is called in it before."""

    def __init__(self, log: Path, overrides: list[str], prepare: Callable[[], None] = lambda: None) -> None:
        self.log = log
        self.process = multiprocessing.get_context("fork").Process(target=self._run, args=(overrides, prepare))
        self.process.start()

    def ending(self) -> Ending:
        with time_limit(100):
            self.process.join()
        return Ending(self.process.exitcode, self.log.read_text().splitlines()[-1])

    def _run(self, overrides: list[str], prepare: Callable[[], None]) -> None:
        with self.log.open("w") as stream:
            os.dup2(stream.fileno(), 2)
        sys.stderr = open(2, "w", closefd=False)  # in place of the one that pytest captures
        prepare()
        run_command(train_command.main, ["shapes", "ssl_demo", *overrides])


def small_memory() -> None:
    """300 MB more than the process has; what is freed can be had again, which the C library does not promise."""
    ctypes.CDLL(None).mallopt(_OWN_MAPPING, 1 << 20)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (300 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def train_in_small_memory(overrides: list[str]) -> Ending:
    """In an interpreter of its own: one that is forked from a long test run has memory that it does not use."""
    imports = "import commands.meta_training, tests.test_faults as t"
    code = f"{imports}; t.small_memory(); t.run_command(t.train_command.main)"
    command = [sys.executable, "-c", code, "shapes", "ssl_demo", *overrides]
    done = subprocess.run(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True, timeout=200)
    return Ending(done.returncode, done.stderr.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_a_batch_that_does_not_fit_into_memory(workspace: Workspace) -> None:
    """What is said to fit does."""
    words = ["TRAIN.epoch_episodes=16", "TRAIN.train_h=193", "TRAIN.train_w=193", "TRAIN.epochs=1"]
    large = workspace.overrides("batch_too_large", *words, "TRAIN.batch_size=16")
    code, line = train_in_small_memory(large)
    found = re.fullmatch(
        r"error: memory ran out: 16 episodes of 193x193 pixels do not fit, (\d+) episodes? of 193x193 pixels( or 16 "
        r"episodes of \d+x\d+ pixels)? would; decrease TRAIN\.batch_size, .*",
        line,
    )
    assert code == 2 and found is not None, line
    small = workspace.overrides(
        "batch_that_fits", *words, f"TRAIN.batch_size={found[1]}", f"TRAIN.epoch_episodes={found[1]}"
    )
    assert train_in_small_memory(small).code == 0


@pytest.mark.slow
def test_a_worker_that_the_system_kills(workspace: Workspace, tmp_path: Path) -> None:
    words = ["TRAIN.workers=1", "TRAIN.epoch_episodes=400", "TRAIN.save_minutes=0.0001", "TRAIN.print_freq=1"]
    overrides, folder = workspace.overrides("killed_worker", "TRAIN.epochs=1", *words), workspace.root / "killed_worker"
    training = Training(tmp_path / "log.txt", overrides)
    with time_limit(100):
        while not (folder / LATEST).exists():
            time.sleep(0.01)
    (worker,) = children(training.process.pid or 0)
    os.kill(worker, signal.SIGKILL)
    assert training.ending() == (
        2,
        "error: the system has killed a process that reads images, most likely because memory ran out; free some or "
        "decrease TRAIN.workers, then run the same command again",
    )
    assert read_checkpoint(folder / LATEST)["position"]["step"] > 0
    again = Training(tmp_path / "again.txt", overrides)
    with time_limit(100):
        while not again.log.is_file() or "continuing after step" not in again.log.read_text():
            time.sleep(0.01)
    os.kill(again.process.pid or 0, signal.SIGINT)
    assert again.ending().code == 130


def small_shared_memory() -> None:
    """64 KB, for this process alone; as a container may have it."""
    ctypes.CDLL(None).unshare(_NEW_MOUNTS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/dev/shm"], check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root may make /dev/shm small")
def test_shared_memory_that_is_too_small(workspace: Workspace, tmp_path: Path) -> None:
    overrides = workspace.overrides("small_shm", "TRAIN.workers=2")
    code, line = Training(tmp_path / "log.txt", overrides, small_shared_memory).ending()
    assert code == 2 and line.startswith("error: /dev/shm is full: ") and "decrease TRAIN.workers" in line


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for a checkpoint and half of another."""
    with mounted_disk(tmp_path / "disk", "2600k") as folder:
        try:
            yield folder
        finally:
            start_logging()  # closes the log


@pytest.mark.parametrize("filled", [False, True], ids=["while saving", "from the start"])
def test_a_full_disk(workspace: Workspace, fails: Callable[..., str], small_disk: Path, filled: bool) -> None:
    """The checkpoint before it stays, and the training goes on with it when there is room again."""
    words = [f"TRAIN.save_path={small_disk}/run", "TRAIN.epoch_episodes=8", "TRAIN.epochs=1", "TRAIN.print_freq=1"]
    arguments = ["shapes", "ssl_demo", *workspace.overrides("", *words, "TRAIN.save_minutes=0.00001")]
    if filled:
        with suppress(OSError), (small_disk / "other").open("wb", buffering=0) as other:
            while True:
                other.write(bytes(4096))
    message = fails(train_command.main, arguments)
    assert re.fullmatch(
        rf"error: {small_disk}/run/\S+: No space left on device; free some space and run the same command again",
        message,
    )
    sound = [read_checkpoint(path)["position"]["step"] for path in sorted((small_disk / "run").glob("*.pth"))]
    assert sound == ([] if filled else [1, 1])
    assert not list((small_disk / "run").glob(".*.pth.*"))
    (small_disk / "other").unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    train_command.main(arguments)
    whole = workspace.train("never_full", *words[1:])
    assert equal(whole, load_model(small_disk / "run" / LATEST).state_dict())
    assert ("continuing after step 1" in (small_disk / "run" / "log.txt").read_text()) is not filled


def test_a_checkpoint_of_another_network(workspace: Workspace, fails: Callable[..., str]) -> None:
    """In the run folder, as TRAIN.resume, and under the configuration of this one."""
    words = ["TRAIN.epochs=1", "TRAIN.epoch_episodes=2"]
    workspace.train("narrow", *words)
    wide, narrow = "TRAIN.hidden_dims=32", workspace.root / "narrow" / LATEST
    difference = "another run (TRAIN.hidden_dims is 16 there, 32 expected)"
    message = fails(train_command.main, ["shapes", "ssl_demo", *workspace.overrides("narrow", *words, wide)])
    assert message.startswith(f"error: {workspace.root}/narrow holds {difference}")
    overrides = workspace.overrides("wide", *words, wide, f"TRAIN.resume={narrow}")
    message = fails(train_command.main, ["shapes", "ssl_demo", *overrides])
    assert message.startswith(f"error: TRAIN.resume={narrow} is of {difference}")
    checkpoint = read_checkpoint(narrow)
    checkpoint["config"]["TRAIN"]["hidden_dims"] = 32
    folder = workspace.root / "narrow_in_wide"
    folder.mkdir()
    torch.save(checkpoint, folder / LATEST)
    message = fails(train_command.main, ["shapes", "ssl_demo", *workspace.overrides(folder.name, *words, wide)])
    assert f"{folder / LATEST}: holds tensors of another network" in message


def test_two_of_three_checkpoints_are_damaged(workspace: Workspace, fails: Callable[..., str]) -> None:
    """A sound ``best.pth`` does not hide it, and can be trained on."""
    folder = workspace.root / "two_damaged"
    words = [
        "TRAIN.epochs=1",
        "TRAIN.epoch_episodes=2",
        "TRAIN.episodes=2",
        "TRAIN.evaluate=true",
        "TRAIN.best_on_validation=true",
    ]
    workspace.train(folder.name, *words)
    for name in (LATEST, PREVIOUS):
        (folder / name).write_bytes((folder / name).read_bytes()[:-100])
    message = fails(train_command.main, ["shapes", "ssl_demo", *workspace.overrides(folder.name, *words)])
    for name in (LATEST, PREVIOUS):
        assert f"{folder / name}: not a readable weight file (damaged or cut short)" in message
    assert message.endswith("; delete what is damaged to start from the beginning")
    workspace.train("from_best", *words, f"TRAIN.weight={folder / BEST}")


def test_a_clock_that_is_set_back(workspace: Workspace) -> None:
    """Before a continuation and with every reading: weights, epochs and TensorBoard's order are the same."""
    words = ["TRAIN.epochs=1", "TRAIN.epoch_episodes=6", "TRAIN.print_freq=1", "VIS.visualize=false"]
    whole = workspace.train("steady_clock", *words)
    arguments = ["shapes", "ssl_demo", *workspace.overrides("clock_set_back", *words)]
    seconds = itertools.count(2e9, -3600)
    with patch("time.time", seconds.__next__):
        for _ in range(2):
            with signal_after_each_step(signal.SIGINT), pytest.raises(KeyboardInterrupt):
                train_command.main(arguments)
        train_command.main(arguments)
    folders = [workspace.root / name for name in ("steady_clock", "clock_set_back")]
    assert equal(whole, load_model(folders[1] / LATEST).state_dict())
    assert (folders[0] / "epochs.jsonl").read_text() == (folders[1] / "epochs.jsonl").read_text()
    assert points(folders[1]) == points(folders[0])
