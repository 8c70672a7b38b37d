"""What is said to fit where memory runs out: on a machine that holds so many pixels."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.fitting import fitting_step
from tests.engine.small_training import training_batch
from util.device import DoesNotFitError, memory_for
from util.errors import UserError

SIDE = 65


def batch_of(episodes: int) -> dict[str, Any]:
    tensors = {name: value[:1].expand(episodes, *value.shape[1:]) for name, value in training_batch().items()}
    return {**tensors, "original_mask": [torch.zeros(7, 9)] * episodes}


def pixels(batch: Mapping[str, Any]) -> int:
    """Of the query images; the other fields are of the same size."""
    for name in ("query_mask", "query_padding", "support_images", "support_masks", "support_padding"):
        assert len(batch[name]) == len(batch["query_image"])
        assert batch[name].shape[-2:] == batch["query_image"].shape[-2:]
    assert len(batch["original_mask"]) == len(batch["class_id"]) == len(batch["query_image"])
    return int(batch["query_image"][:, 0].numel())


def out_of_memory(kind: str) -> Exception:
    errors = {
        "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        "cpu": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        "numpy": np._core._exceptions._ArrayMemoryError((2**50,), np.dtype("f8")),  # type: ignore[attr-defined]
    }
    return errors[kind]


@pytest.mark.parametrize("kind", ["gpu", "cpu", "numpy"])
@pytest.mark.parametrize(
    ("room", "fitting"),
    [
        (6 * SIDE**2, "4 episodes of 65x65 pixels or 8 episodes of 49x49 pixels would"),
        (2 * SIDE**2, "2 episodes of 65x65 pixels would"),
        (8 * 33**2, "2 episodes of 65x65 pixels or 8 episodes of 33x33 pixels would"),
        (SIDE**2, "1 episode of 65x65 pixels would"),
        (33**2, "1 episode of 33x33 pixels would"),
        (33**2 - 1, "nor does 1 episode of 33x33 pixels in what is left"),
    ],
)
def test_what_would_fit(kind: str, room: int, fitting: str) -> None:
    def step(batch: Mapping[str, Any]) -> None:
        if pixels(batch) > room:
            raise out_of_memory(kind)

    with pytest.raises(DoesNotFitError) as raised:
        fitting_step(step, batch_of(8))
    assert str(raised.value) == f"8 episodes of 65x65 pixels do not fit, {fitting}"
    with pytest.raises(UserError) as mistake, memory_for("KEY"):
        raise raised.value
    assert str(mistake.value) == f"memory ran out: {raised.value}; decrease KEY"


def test_what_the_step_held_is_given_back_before_others_are_tried() -> None:
    held: list[weakref.ref[Tensor]] = []

    def step(batch: Mapping[str, Any]) -> None:
        assert not any(tensor() is not None for tensor in held)
        activations = torch.zeros(1)
        held.append(weakref.ref(activations))
        if pixels(batch) > SIDE**2:
            raise torch.OutOfMemoryError(f"CUDA out of memory {activations}")

    with pytest.raises(DoesNotFitError, match="1 episode of 65x65 pixels or"):
        fitting_step(step, batch_of(2))


def test_a_step_that_fits_is_done_once_and_other_errors_are_what_they_are() -> None:
    sizes: list[int] = []

    def step(batch: Mapping[str, Any]) -> int:
        sizes.append(pixels(batch))
        return len(sizes)

    assert fitting_step(step, batch_of(2)) == 1
    assert sizes == [2 * SIDE**2]

    def broken(batch: Mapping[str, Any]) -> None:
        if pixels(batch) > SIDE**2:
            raise MemoryError
        raise RuntimeError("shapes do not match")

    for size in (1, 2):
        with pytest.raises(RuntimeError, match="shapes do not match"):
            fitting_step(broken, batch_of(size))


def test_no_process_of_several_tries_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others would wait for it, each in another step."""
    monkeypatch.setattr("engine.fitting.world_size", lambda: 2)
    sizes: list[int] = []

    def step(batch: Mapping[str, Any]) -> None:
        sizes.append(pixels(batch))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(UserError, match=r"^memory ran out; decrease KEY$"), memory_for("KEY"):
        fitting_step(step, batch_of(2))
    assert len(sizes) == 1
