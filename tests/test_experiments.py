"""``experiments.sh`` as users type it, on a small network: to the tables, and through an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.workspace import Workspace
from util.files import PROJECT

pytest_plugins = ["tests.workspace"]
pytestmark = pytest.mark.slow


def command_line(workspace: Workspace, output: Path, *more: str) -> list[str]:
    """A training of two steps, tests of four episodes."""
    words = [word for word in workspace.overrides("") if not word.startswith("TRAIN.save_path=")]
    small = ["TRAIN.epochs=1", "TRAIN.episodes=4", "TRAIN.evaluate=false", "VIS.visualize=false"]
    script = ["bash", str(PROJECT / "experiments.sh"), "shapes", "demo", "--output", str(output)]
    return [*script, *more, *words, *small]


def run(command: Sequence[str], code: int = 0) -> str:
    """What the command says."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stderr
    return done.stderr


def test_the_unsupervised_network(workspace: Workspace, tmp_path: Path) -> None:
    """Masks, training, eight tests, tables and figure; the second time nothing is left to do."""
    command = command_line(workspace, tmp_path, "--only", "unsupervised")
    said = run(command)
    assert "10 runs, of which 0 are finished" in said and said.count(": done in ") == 10
    names = ["shapes_demo", *(f"shapes_demo.{suffix}" for suffix in ("csv", "json", "md", "png", "svg"))]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    rows = json.loads((tmp_path / "shapes_demo.json").read_text())["rows"]
    assert [(row["shots"], row["fold"]) for row in rows] == [
        (k, f) for k in (1, 5) for f in ("0", "1", "2", "3", "mean")
    ]
    results = json.loads((tmp_path / "shapes_demo/unsupervised/fold2_5shot/seed_123/results.json").read_text())
    assert (results["protocol"]["split"], results["protocol"]["shots"]) == (2, 5)
    assert results["protocol"]["trained"] == "shapes ssl_demo, 1 epochs, seed 123"
    assert rows[7]["miou"] == pytest.approx(results["miou"])
    again = run(command)
    assert "10 runs, of which 10 are finished" in again and "started" not in again


def test_ctrl_c_leaves_a_checkpoint_in_every_run(workspace: Workspace, tmp_path: Path) -> None:
    words = ["DATA.min_area=20", "TRAIN.epochs=400", "TRAIN.save_freq=400"]
    command = [*command_line(workspace, tmp_path, "--only", "scratch_100"), *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    folder = tmp_path / "shapes_demo" / "scratch_100" / "fold0" / "seed_123"
    while not (folder / "log.txt").is_file() or "  loss " not in (folder / "log.txt").read_text():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted: 1 runs in progress were ended; the same command continues them"
    assert "interrupted: saved after step" in (folder / "output.txt").read_text()
    assert (folder / "latest.pth").is_file()
