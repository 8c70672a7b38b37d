"""What TensorBoard gets of a run, and that drawing changes nothing in training."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from tensorboardX.proto.event_pb2 import Event

from engine.run_folder import LATEST
from model.checkpoints import read_checkpoint
from tests.engine.small_training import small_trainer


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
    scalars = ("loss", "predicted_share", "object_share", "margin", "sgd_lr", "transformer_lr")
    assert points(tmp_path) == {
        **{f"train/{name}": [2, 3, 5, 6] for name in scalars},
        "validation/miou": [3, 6],
        "episode": [3, 6],
    }
    records = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert [set(record) for record in records] == [{"epoch", "validation_miou", *scalars}] * 2
    pictures = [value.image for event in events(tmp_path) for value in event.summary.value if value.tag == "episode"]
    assert [(picture.height, picture.width, picture.colorspace) for picture in pictures] == [(182, 640, 3)] * 2
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
    with patch("engine.trainer.save_checkpoint", lambda *_: on_disk.append(points(tmp_path))):
        small_trainer(tmp_path, "TRAIN.epochs=2").run()
    assert [(steps["train/loss"], steps["episode"]) for steps in on_disk] == [([2, 3], [3]), ([2, 3, 5, 6], [3, 6])]
