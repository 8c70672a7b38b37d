"""Training on labelled and pseudo episodes at once, as users type it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import train as train_command
from episodes.folds import describe_label_use
from model import load_model
from tests.workspace import Workspace, equal

pytest_plugins = ["tests.workspace"]


@pytest.mark.slow
def test_a_few_labels_join_pseudo_masks_of_all_images(workspace: Workspace) -> None:
    lines = (workspace.root / "lists/train.txt").read_text().splitlines(keepends=True)
    few = workspace.root / "lists/joint_few.txt"
    few.write_text("".join(lines[:40]))
    words = (f"DATA.train_list={few}", f"DATA.pseudo_list={workspace.root}/lists/train.txt", "TRAIN.pseudo_share=0.5")
    joint = workspace.train("joint", *words, experiment="split0_demo")
    assert load_model(workspace.root / "joint/latest.pth").origin["label_use"] == describe_label_use(0)
    labelled = workspace.train("joint_none", f"DATA.train_list={few}", experiment="split0_demo")
    assert not equal(joint, labelled)
    assert equal(joint, workspace.train("joint_views", *words, experiment="split0_demo"))


def test_impossible_joints(workspace: Workspace, fails: Callable[..., str], tmp_path: Path) -> None:
    def failure(experiment: str, *words: str) -> str:
        return fails(train_command.main, ["shapes", experiment, *workspace.overrides("joint_wrong", *words)])

    share = "TRAIN.pseudo_share=0.5"
    assert "TRAIN.pseudo_share is for joint and split experiments" in failure("ssl_demo", share)
    assert "must be 0 with TRAIN.compat=published" in failure("split0_demo", share, "TRAIN.compat=published")
    assert "object_share" in failure("split0_demo", share, "Cluster.object_share=0.5")
    few = tmp_path / "few.txt"
    few.write_text("".join((workspace.root / "lists/train.txt").read_text().splitlines(keepends=True)[:40]))
    assert "list_digest" in failure("split0_demo", share, f"DATA.train_list={few}")
