"""Run folders: what continues a run, who may work in one, and interruptions."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import torch
import yaml

import test as test_command
import train as train_command
from tests.workspace import Workspace, equal
from util.files import PROJECT, read_json, write_json

pytest_plugins = ["tests.workspace"]
_LOCK_HOLDER = """
import sys, time
from pathlib import Path
from util.locks import only_process_in
with only_process_in(Path(sys.argv[1]), sys.argv[2]):
    print(flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_weights(workspace: Workspace) -> None:
    uninterrupted = workspace.train("uninterrupted", "TRAIN.epochs=4")
    overrides = workspace.overrides("killed", "TRAIN.epochs=4")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "train.py"), "shapes", "ssl_demo", *overrides],
        env=environment, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    checkpoint = workspace.root / "killed" / "latest.pth"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = torch.load(checkpoint, weights_only=True)["epoch"]
    assert 1 <= finished <= 4
    assert equal(uninterrupted, workspace.train("killed", "TRAIN.epochs=4"))
    epochs = [json.loads(line)["epoch"] for line in (workspace.root / "killed/epochs.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3, 4]


@pytest.mark.slow
def test_term_ends_a_training_in_one_line(workspace: Workspace) -> None:
    overrides = workspace.overrides("terminated", "TRAIN.epochs=1000", "TRAIN.workers=2")
    process = subprocess.Popen(
        ["sh", str(PROJECT / "train.sh"), "shapes", "ssl_demo", *overrides], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "iteration" not in process.stderr.readline():
        assert process.poll() is None
    process.terminate()
    *lines, last = process.communicate()[1].splitlines()
    assert process.returncode == 143
    assert last == "interrupted: the same command continues from what is on the disk"
    assert not [line for line in lines if "iteration" not in line]


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
