"""What TensorBoard gets of a run, and what its checkpoints hold."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from engine.run_folder import BEST, LATEST, save_latest
from model.checkpoints import read_checkpoint
from tests.engine.small_training import small_trainer
from util.errors import UserError


def events(folder: Path) -> Iterator[Event]:
    """The events of a run: records of an 8-byte length, 4 bytes of checksum, the event, 4 bytes of checksum."""
    for path in sorted((folder / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            yield Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def points(folder: Path) -> dict[str, list[int]]:
    """The iterations of each scalar and each picture."""
    iterations: dict[str, list[int]] = {}
    for event in events(folder):
        for value in event.summary.value:
            iterations.setdefault(value.tag, []).append(event.step)
    return iterations


def test_scalars_at_printed_lines_validation_per_epoch_and_a_picture_per_checkpoint(tmp_path: Path) -> None:
    small_trainer(tmp_path, "TRAIN.epochs=2", validate=True).run()
    means = ("miou", "fb_iou", "accuracy")
    scalars = ("loss", "predicted_share", "object_share", "margin", "sgd_lr", "transformer_lr", *means)
    assert points(tmp_path) == {
        **{f"train/{name}": [2, 3, 5, 6] for name in (*scalars, "step_seconds", "data_seconds")},
        **{f"validation/{name}": [3, 6] for name in means},
        "episode": [3, 6],
    }
    records = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert [set(record) for record in records] == [{"epoch", *scalars, *(f"validation_{name}" for name in means)}] * 2
    pictures = [value.image for event in events(tmp_path) for value in event.summary.value if value.tag == "episode"]
    assert [(picture.height, picture.width, picture.colorspace) for picture in pictures] == [(22 + 240, 4 * 240, 3)] * 2
    assert pictures[0].encoded_image_string.startswith(b"\x89PNG")


def test_a_checkpoint_that_is_not_due_has_no_picture(tmp_path: Path) -> None:
    small_trainer(tmp_path, "TRAIN.epochs=3", "TRAIN.save_freq=2").run()
    assert points(tmp_path)["episode"] == [6, 9]


def test_pictures_do_not_change_the_weights(tmp_path: Path) -> None:
    drawn, plain = (
        small_trainer(tmp_path / "drawn", "TRAIN.epochs=2"),
        small_trainer(tmp_path / "plain", "TRAIN.epochs=2", pictures=False),
    )
    for run in (drawn, plain):
        run.run()
    assert "episode" in points(tmp_path / "drawn")
    assert "episode" not in points(tmp_path / "plain")
    weights = [run.model.state_dict() for run in (drawn, plain)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert drawn.model.training


def test_a_resumed_run_drops_the_points_that_it_repeats(tmp_path: Path) -> None:
    small_trainer(tmp_path, "TRAIN.epochs=1").run()
    resumed = small_trainer(tmp_path, "TRAIN.epochs=2")
    resumed.resume(read_checkpoint(tmp_path / LATEST))
    resumed.run()
    starts = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert starts == [1, 4]
    assert points(tmp_path)["train/loss"] == [2, 3, 5, 6]


def test_points_and_pictures_are_on_the_disk_before_the_checkpoint(tmp_path: Path) -> None:
    on_disk: list[dict[str, list[int]]] = []
    with patch("engine.trainer.save_latest", lambda *_: on_disk.append(points(tmp_path))):
        small_trainer(tmp_path, "TRAIN.epochs=2").run()
    assert [(steps["train/loss"], steps["episode"]) for steps in on_disk] == [([2, 3], [3]), ([2, 3, 5, 6], [3, 6])]


def test_the_best_checkpoint_is_written_before_the_latest(tmp_path: Path) -> None:
    """A run that is killed in between repeats the epoch, and has both."""

    def die_at_the_end(folder: Path, checkpoint: dict[str, object]) -> None:
        if "position" not in checkpoint:
            raise KeyboardInterrupt
        save_latest(folder, checkpoint)

    words = ("TRAIN.epochs=1", "TRAIN.best_on_validation=true")
    with patch("engine.trainer.save_latest", die_at_the_end), pytest.raises(KeyboardInterrupt, match="saved after"):
        small_trainer(tmp_path, *words, validate=True, pictures=False).run()
    assert (tmp_path / BEST).is_file() and read_checkpoint(tmp_path / LATEST)["epoch"] == 0


def test_a_best_checkpoint_that_is_missing_is_made_of_the_epochs_that_are_left(
    tmp_path: Path, messages: list[str]
) -> None:
    words = ("TRAIN.epochs=2", "TRAIN.best_on_validation=true")
    small_trainer(tmp_path, "TRAIN.epochs=1", pictures=False).run()
    messages.clear()  # of the lines of training, which are here where another test has set the level
    resumed = small_trainer(tmp_path, *words, validate=True, pictures=False)
    resumed.resume({**read_checkpoint(tmp_path / LATEST), "best_miou": 0.9})  # and validation gives 0.5
    assert messages == [f"{tmp_path / BEST} is missing: only epochs that are still trained can become it"]
    resumed.run()
    assert read_checkpoint(tmp_path / BEST)["epoch"] == 2
    resumed.resume(read_checkpoint(tmp_path / LATEST))
    assert resumed.best_miou == 0.5 and sum("is missing" in message for message in messages) == 1


def test_a_finished_run_leaves_no_file(tmp_path: Path) -> None:
    finished = small_trainer(tmp_path, "TRAIN.epochs=1")
    finished.finished_epochs = 1
    finished.run()
    assert not list(tmp_path.iterdir())


def test_a_batch_that_does_not_fit_into_memory_names_its_size(tmp_path: Path) -> None:
    hungry = small_trainer(tmp_path, "TRAIN.epochs=1")
    for error in ("cpu", "gpu", "numpy"):
        with patch("engine.epoch.batch_logits", lambda *_, error=error: _run_out_of_memory(error)):
            with pytest.raises(UserError, match=r"memory ran out: 2 .*; decrease TRAIN\.batch_size, TRAIN"):
                hungry.run()
    with patch("engine.epoch.batch_logits", lambda *_: torch.zeros(2) @ torch.zeros(3)):
        with pytest.raises(RuntimeError, match="inconsistent"):
            hungry.run()


def _run_out_of_memory(kind: str) -> object:
    if kind == "gpu":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    return torch.empty(2**50) if kind == "cpu" else np.empty(2**50)


def test_a_checkpoint_of_another_network_or_without_optimizers_is_not_continued(tmp_path: Path) -> None:
    resumed = small_trainer(tmp_path)
    weights = resumed.model.state_dict()
    for state, problem in (
        ({"model": {}}, r"holds tensors of another network: \d+ of \d+ tensors are missing"),
        ({"model": weights}, "cannot be continued, its state of sgd is missing or incomplete; start a run from"),
        (
            {"model": {**weights, "classifier.0.weight": weights["classifier.0.weight"] * float("nan")}},
            "weights are not",
        ),
    ):
        with pytest.raises(UserError, match=rf"^\S*{LATEST}: {problem}[^\n]*$"):
            resumed.resume({"epoch": 1, **state})
