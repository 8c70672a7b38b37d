"""Where an epoch goes on: stored, read, refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.epoch_report import EpochProgress, Sums
from engine.optimizers import build_optimizers
from engine.position import Position, check_finite
from model import FSSModel
from tests.model.networks import tiny_model
from util.errors import UserError
from util.seed import generator_states

CPU, SOURCE = torch.device("cpu"), Path("latest.pth")
SUMS = Sums(steps=2, values={"loss": 1.5}, areas={3: (1, 2, 3, 4)})


def stored(**other: Any) -> dict[str, Any]:
    position = Position(step=2, steps=3, progress=EpochProgress(since=SUMS), generators=generator_states(CPU))
    return {**position.model_dump(), **other}


def test_what_was_stored_comes_back(tmp_path: Path) -> None:
    torch.save(stored(), tmp_path / "position.pth")
    position = Position.stored(torch.load(tmp_path / "position.pth", weights_only=True), 3, SOURCE)
    assert position is not None and position.progress == EpochProgress(since=SUMS)
    assert Position.stored(None, 3, SOURCE) is None


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (stored(step=1), "step 1 of 3 is there, of 3 expected"),
        (stored(steps=4), "step 2 of 4 is there, of 3 expected"),
        (stored(step="2"), "step: Input should be a valid integer"),
        (stored(progress={"since": {"steps": 2, "areas": {3: (1, 2)}}}), "progress.since.areas.3: Tuple should have"),
        ({"step": 2, "steps": 3}, "progress: Field required; generators: Field required"),
    ],
)
def test_a_position_that_is_none_of_this_epoch(state: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=rf"^latest.pth: cannot be continued, its position \({re.escape(problem)}"):
        Position.stored(state, 3, SOURCE)


@pytest.mark.parametrize("place", ["weight", "average"])
def test_a_number_that_is_not_finite(place: str) -> None:
    model: FSSModel = tiny_model()
    optimizers = build_optimizers(
        model, base_lr=0.1, momentum=0.9, weight_decay=0, transformer_lr=0.1, transformer_weight_decay=0
    )
    weight = optimizers.adamw.param_groups[0]["params"][0]
    weight.grad = torch.ones_like(weight)
    optimizers.step()
    check_finite(model, optimizers, 7)
    tensor = weight if place == "weight" else optimizers.adamw.state[weight]["exp_avg_sq"]
    tensor.data.view(-1)[-1] = float("inf")
    with pytest.raises(UserError, match=r"^the weights are no longer finite by iteration 7; use a smaller TRAIN\.base"):
        check_finite(model, optimizers, 7)
