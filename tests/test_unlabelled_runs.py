"""Commands that work without labels open none, though something in them tries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import train as train_command
from episodes import pseudo
from episodes.closed_labels import OpenedLabelError
from episodes.lists import ImageList, read_list
from masks import create, prepared_images
from masks.pretrain import unlabelled_images
from masks.pretrain.__main__ import main as pretrain
from masks.report.__main__ import main as report
from model.checkpoints import read_checkpoint
from tests.episodes.test_closed_labels import WAYS, assert_refused
from tests.workspace import Workspace
from util.images import read_label

pytest_plugins = ["tests.workspace"]


def listed(workspace: Workspace, name: str) -> ImageList:
    return read_list(workspace.root / "lists" / name, workspace.root / "shapes", need_labels=True)


def before(function: Callable[..., object], labels: list[Path]) -> Callable[..., object]:
    """``function``, that first tries to open the labels in every way, then the first of them for good."""

    def curious(*arguments: object, **named: object) -> object:
        for label in labels:
            for way in WAYS.values():
                assert_refused(label, way)
        read_label(labels[0])
        return function(*arguments, **named)

    return curious


@pytest.fixture
def labels(workspace: Workspace) -> Iterator[list[Path]]:
    """One of each list, and one of an image that no list names."""
    paths = [listed(workspace, name).label_path(3) for name in ("train.txt", "val.txt")]
    unlisted = paths[0].with_name("unlisted.png")
    unlisted.write_bytes(paths[0].read_bytes())
    yield [*paths, unlisted]
    unlisted.unlink()


@pytest.mark.parametrize("workers", [0, 1])
def test_unsupervised_training_opens_no_label(
    workspace: Workspace, labels: list[Path], monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(pseudo, "build_episode", before(pseudo.build_episode, labels))
    arguments = ["shapes", "ssl_demo", *workspace.overrides(f"curious{workers}", f"TRAIN.workers={workers}")]
    with pytest.raises(OpenedLabelError, match=labels[0].name):
        train_command.main(arguments)
    assert not (workspace.root / f"curious{workers}" / "latest.pth").exists()


def test_unsupervised_training_with_validation_opens_the_labels_of_validation_alone(
    workspace: Workspace, labels: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["TRAIN.evaluate=true", "TRAIN.epochs=1", "TRAIN.epoch_episodes=2", "TRAIN.episodes=2"]
    workspace.train("unlabelled_validated", *words)
    assert read_checkpoint(workspace.root / "unlabelled_validated" / "latest.pth")["label_use"] == "none"
    read_label(labels[0])  # after a training it is open again
    monkeypatch.setattr(pseudo, "build_episode", before(pseudo.build_episode, labels[:1]))
    with pytest.raises(OpenedLabelError, match=labels[0].name):
        workspace.train("unlabelled_curious", *words)


def test_making_masks_opens_no_label_and_their_report_does(
    workspace: Workspace, labels: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(workspace.root), "shapes", *workspace.mask_overrides]
    folder = f"Cluster.pseudo_folder={workspace.root}/curious_masks"
    with monkeypatch.context() as patch:
        patch.setattr(prepared_images, "read_image", before(prepared_images.read_image, labels))
        with pytest.raises(OpenedLabelError, match=labels[0].name):
            create.main([*arguments, folder])
    report(arguments)
    assert "labels used  yes" in capsys.readouterr().out


def test_pretraining_opens_the_labels_of_its_probe_alone(
    workspace: Workspace, labels: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lists, root = workspace.root / "lists", ["--root", f"{workspace.root}/shapes"]
    options = ["--model", "mobilenetv2_035", "--epochs", "1", "--batch", "8", "--size", "32", "--workers", "0"]
    with monkeypatch.context() as patch:
        patch.setattr(unlabelled_images, "read_image", before(unlabelled_images.read_image, labels[:1]))
        for probe in ([], ["--probe", f"{lists}/val.txt"]):
            with pytest.raises(OpenedLabelError, match=labels[0].name):
                pretrain([f"{lists}/train.txt", f"{workspace.root}/curious.safetensors", *root, *options, *probe])
