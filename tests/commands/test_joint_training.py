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


def test_a_training_list_in_which_some_images_have_labels(workspace: Workspace) -> None:
    """It trains as the list of those with labels does, beside pseudo masks of all; a test says that it knows all."""
    some, labelled = workspace.root / "lists/joint_some.txt", workspace.root / "lists/joint_labelled.txt"
    lines = (workspace.root / "lists/train.txt").read_text().splitlines(keepends=True)
    some.write_text("".join([f"{line.split()[0]}\n" for line in lines[:40]] + lines[40:]))
    labelled.write_text("".join(lines[40:]))
    joint = workspace.train("joint_some", f"DATA.train_list={some}", experiment="joint_demo")
    lists = (f"DATA.train_list={labelled}", f"DATA.pseudo_list={workspace.root}/lists/train.txt")
    assert equal(joint, workspace.train("joint_labelled", *lists, experiment="joint_demo"))
    protocol = workspace.test("joint_some", experiment="joint_demo")["protocol"]
    assert isinstance(protocol, dict)
    assert (protocol["split"], protocol["label_use"]) == (5, "all classes")
    assert protocol["known_classes"] == list(range(1, 21))


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
    lines = (workspace.root / "lists/train.txt").read_text().splitlines()
    for labelled, message in ((0, "none of its 80 images has a label"), (1, "label more images")):
        some = tmp_path / f"{labelled}.txt"
        some.write_text("\n".join(lines[:labelled] + [line.split()[0] for line in lines[labelled:]]))
        assert message in failure("joint_demo", f"DATA.train_list={some}")
