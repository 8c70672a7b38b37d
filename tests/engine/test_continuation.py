"""How a training goes on: signals, checkpoints within an epoch, what ends up the same."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from engine import epoch
from engine.run_folder import LATEST, PREVIOUS, save_latest
from engine.trainer import Trainer
from model.checkpoints import read_checkpoint
from tests.engine.small_training import STEPS, small_trainer, training_batch
from tests.engine.test_trainer import events
from util.errors import Terminated, UserError


class SignalledBatches:
    """The rest of an epoch's batches, with a signal while number ``at`` of the whole run, from 0, is read."""

    def __init__(self, epoch: int, first: int, at: int, number: int) -> None:
        self.batches = range(epoch * STEPS + first, (epoch + 1) * STEPS)
        self.at, self.number = at, number

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for index in self.batches:
            if index == self.at:
                os.kill(os.getpid(), self.number)
            batch = training_batch()
            yield {**batch, "query_image": batch["query_image"] + index}


def signalled_trainer(folder: Path, *words: str, at: int, number: int = signal.SIGINT, **parts: bool) -> Trainer:
    """Two epochs, with a signal while batch ``at`` is read; goes on with what ``folder`` holds."""
    run = small_trainer(folder, "TRAIN.epochs=2", *words, **{"pictures": False, **parts})
    run.batches = lambda epoch, first: SignalledBatches(epoch, first, at, number)
    if (folder / LATEST).exists():
        run.resume(read_checkpoint(folder / LATEST))
    return run


def outcome(folder: Path) -> tuple[str, dict[str, list[int]], list[torch.Tensor]]:
    """The log of the epochs, the points as TensorBoard shows them, the weights and the averages of the optimizers."""
    shown: dict[str, list[int]] = {}
    for event in events(folder):
        if event.HasField("session_log"):
            shown = {name: [step for step in steps if step < event.step] for name, steps in shown.items()}
        for value in event.summary.value:
            shown.setdefault(value.tag, []).append(event.step)
    checkpoint = read_checkpoint(folder / LATEST)
    states = [state for optimizer in checkpoint["optimizers"].values() for state in optimizer["state"].values()]
    tensors = [*checkpoint["model"].values(), *(tensor for state in states for tensor in state.values())]
    return (folder / "epochs.jsonl").read_text(), shown, tensors


def assert_same_outcome(first: Path, second: Path) -> None:
    (log, shown, tensors), (other_log, other_shown, other_tensors) = outcome(first), outcome(second)
    assert log == other_log and shown == other_shown
    assert len(tensors) == len(other_tensors)
    assert all(torch.equal(tensor, other) for tensor, other in zip(tensors, other_tensors, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("validate", [False, True])
def test_a_run_goes_on_to_the_same_bits_wherever_it_was_interrupted(tmp_path: Path, validate: bool) -> None:
    signalled_trainer(tmp_path / "whole", at=-1, validate=validate, pictures=True).run()
    for at in range(2 * STEPS):
        number, ending = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)][at % 2]
        run = signalled_trainer(tmp_path / "parts", at=at, number=number, validate=validate, pictures=True)
        with pytest.raises(KeyboardInterrupt) as raised:
            run.run()
        assert raised.type is ending
        place = f"saved after step {at % STEPS + 1} of epoch {at // STEPS + 1}; the same command continues there"
        is_end = at == 2 * STEPS - 1 and not validate
        assert str(raised.value) == ("all 2 epochs are trained and saved" if is_end else place)
    signalled_trainer(tmp_path / "parts", at=-1, validate=validate, pictures=True).run()
    assert_same_outcome(tmp_path / "whole", tmp_path / "parts")


def test_usr1_saves_and_goes_on(tmp_path: Path, messages: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="unsupfss")
    saved: list[int] = []

    def note_and_save(folder: Path, checkpoint: dict[str, object]) -> None:
        saved.append(checkpoint.get("position", {"step": 0})["step"])  # type: ignore[index]
        save_latest(folder, checkpoint)

    with patch("engine.trainer.save_latest", note_and_save):
        signalled_trainer(tmp_path, at=1, number=signal.SIGUSR1).run()
    assert saved == [2, 0, 0]
    assert [message for message in messages if "saved" in message] == ["saved after step 2 of epoch 1"]


def test_a_checkpoint_every_so_many_minutes(tmp_path: Path) -> None:
    """By a clock that goes on a minute with every reading; the last two are kept."""
    minutes = iter(range(0, 6000, 60))
    saved: list[tuple[int, int]] = []

    def note(folder: Path, checkpoint: dict[str, object]) -> None:
        saved.append((checkpoint["epoch"], checkpoint.get("position", {"step": 0})["step"]))  # type: ignore
        save_latest(folder, checkpoint)

    with patch("engine.trainer.time.monotonic", minutes.__next__), patch("engine.trainer.save_latest", note):
        signalled_trainer(tmp_path, "TRAIN.save_minutes=2", "TRAIN.save_freq=2", at=-1).run()
    assert saved == [(0, 2), (1, 1), (2, 0)]
    kept = [read_checkpoint(tmp_path / name) for name in (PREVIOUS, LATEST)]
    assert [(checkpoint["epoch"], "position" in checkpoint) for checkpoint in kept] == [(1, True), (2, False)]


@pytest.mark.parametrize("broken", ["loss", "weights"])
def test_what_is_not_finite_is_not_saved(tmp_path: Path, broken: str) -> None:
    """The checkpoint before it stays, and is continued."""
    run = signalled_trainer(tmp_path, "TRAIN.save_minutes=0.000001", "TRAIN.print_freq=100", at=-1)
    step, done = epoch._train_step, itertools.count(1)

    def second_is_broken(*arguments: Any) -> epoch.StepMetrics:
        metrics = step(*arguments)
        if next(done) == 2:
            tensor = metrics.means if broken == "loss" else run.optimizers.sgd.param_groups[0]["params"][0].data
            tensor.fill_(float("nan"))
        return metrics

    with patch("engine.epoch._train_step", second_is_broken), pytest.raises(UserError, match="by iteration 2; use a"):
        run.run()
    assert read_checkpoint(tmp_path / LATEST)["position"]["step"] == 1
    signalled_trainer(tmp_path, at=-1).run()


def test_what_ctrl_c_says_before_anything_is_saved_and_in_the_middle_of_validation(tmp_path: Path) -> None:
    run = signalled_trainer(tmp_path, at=0, validate=True)
    with patch("engine.epoch._train_step", lambda *_: os.kill(os.getpid(), signal.SIGINT)):
        with pytest.raises(KeyboardInterrupt, match=r"^nothing is saved yet; the same command begins anew$"):
            run.run()  # the second Ctrl-C, in the middle of a step
    assert not (tmp_path / LATEST).exists()
    run = signalled_trainer(tmp_path, at=-1)
    run.validate = lambda: os.kill(os.getpid(), signal.SIGTERM)  # type: ignore[assignment]
    with pytest.raises(Terminated, match=r"^saved after step 3 of epoch 1; the same command continues there$"):
        run.run()
    assert read_checkpoint(tmp_path / LATEST)["position"]["step"] == 3


def test_a_checkpoint_without_a_position_continues_at_the_end_of_its_epoch(tmp_path: Path) -> None:
    signalled_trainer(tmp_path, "TRAIN.save_freq=1", at=-1).run()
    run = signalled_trainer(tmp_path / "other", at=-1)
    checkpoint = read_checkpoint(tmp_path / PREVIOUS)
    assert checkpoint["epoch"] == 1 and "position" not in checkpoint
    run.resume(checkpoint)
    run.run()
    assert all(torch.equal(*pair) for pair in zip(outcome(tmp_path)[2], outcome(tmp_path / "other")[2], strict=True))


class BatchesThatEnd:
    """One batch, then an image that cannot be read."""

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        yield training_batch()
        raise UserError("a.jpg: not a readable image")


def test_a_mistake_in_the_data_loses_no_step(tmp_path: Path) -> None:
    signalled_trainer(tmp_path / "whole", at=-1).run()
    run = signalled_trainer(tmp_path / "parts", at=-1)
    run.batches = lambda epoch, first: BatchesThatEnd()
    with pytest.raises(UserError, match=r"^a\.jpg: not a readable image$"):
        run.run()
    assert read_checkpoint(tmp_path / "parts" / LATEST)["position"]["step"] == 1
    signalled_trainer(tmp_path / "parts", at=-1).run()
    assert_same_outcome(tmp_path / "whole", tmp_path / "parts")
