"""Where a run stands within an epoch, and whether it is worth continuing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from engine.epoch_report import EpochProgress, not_finite
from engine.optimizers import Optimizers
from util.errors import UserError
from util.settings import describe_problems


class Position(BaseModel):
    """After ``step`` of the ``steps`` of an epoch: its sums and the states of the random generators."""

    model_config = ConfigDict(strict=True)

    step: int = Field(ge=1)
    steps: int
    progress: EpochProgress
    generators: dict[str, Any]

    @classmethod
    def stored(cls, state: Mapping[str, Any] | None, steps: int, source: Path) -> Position | None:
        """What a checkpoint holds as ``model_dump``; None for None, the end of an epoch.

        Raises ``UserError``, which names ``source``, for anything else and for an epoch of other than ``steps``.
        """
        if state is None:
            return None
        try:
            position = cls.model_validate(state)
        except ValidationError as error:
            problem = describe_problems(error)
        else:
            if position.steps == steps and position.step == position.progress.steps <= steps:
                return position
            problem = f"step {position.step} of {position.steps} is there, of {steps} expected"
        raise UserError(
            f"{source}: cannot be continued, its position ({problem}); "
            f"start a run from its weights with TRAIN.weight={source}"
        )


def check_finite(model: nn.Module, optimizers: Optimizers, iteration: int) -> None:
    """Raise ``UserError`` where a weight or an average of a gradient is not finite: no run continues from such."""
    tensors = _tensors([model.state_dict(), optimizers.state_dict()])
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise not_finite("the weights are no longer finite", iteration)


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested dictionaries and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)
