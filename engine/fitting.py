"""Memory that runs out in a step: what fits instead, found by trying."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from engine.batch_parts import part_of
from util.device import DoesNotFitError, is_out_of_memory
from util.distributed import world_size
from util.logging import logger

_Result = TypeVar("_Result")
_Step = Callable[[Mapping[str, Any]], _Result]
# Shares of the sides that are tried, and what sides are a multiple of, plus 1.
_SHARES = (0.75, 0.5)
_STRIDE = 8


def fitting_step(step: _Step[_Result], batch: Mapping[str, Any]) -> _Result:
    """The result of ``step`` for a batch of episodes.

    Where memory runs out, smaller batches and images are tried, and ``DoesNotFitError`` says which fit. Whatever a step
    changes is changed by that: nothing may go on after it. Of several processes, which take their steps together, none
    tries alone.
    """
    try:
        return step(batch)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) or world_size() > 1:
            raise
    # Only now are the tensors given back that the traceback holds.
    logger.info("memory ran out; trying what fits")
    raise DoesNotFitError(_describe(step, batch))


def _describe(step: _Step[Any], batch: Mapping[str, Any]) -> str:
    episodes, (height, width) = len(batch["class_id"]), batch["query_padding"].shape[-2:]
    # Features that are kept are of one size.
    shares = () if "query_features" in batch else _SHARES
    fewer = [_Size(count, height, width) for count in _halves(episodes)]
    smaller = [_Size(episodes, _smaller(height, share), _smaller(width, share)) for share in shares]
    least = [_Size(episodes, height, width), *fewer, *smaller][-1]._replace(episodes=1)
    found = [next((size for size in sizes if _fits(step, size.cut(batch))), None) for sizes in (fewer, smaller)]
    fitting = [size for size in found if size is not None] or ([least] if _fits(step, least.cut(batch)) else [])
    what_fits = f"{' or '.join(map(str, fitting))} would" if fitting else f"nor does {least} in what is left"
    return f"{_Size(episodes, height, width)} do not fit, {what_fits}"


class _Size(NamedTuple):
    """So many episodes of images of that size."""

    episodes: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.episodes} {'episode' if self.episodes == 1 else 'episodes'} of {self.width}x{self.height} pixels"

    def cut(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """This much of a batch: what counts is how much memory it takes, not what it shows."""
        images = batch["query_padding"].shape[-2:]
        return {
            name: value[..., : self.height, : self.width]
            if isinstance(value, Tensor) and value.shape[-2:] == images
            else value
            for name, value in part_of(batch, 0, self.episodes).items()
        }


def _halves(count: int) -> Iterator[int]:
    while count > 1:
        count //= 2
        yield count


def _smaller(side: int, share: float) -> int:
    return round((side - 1) * share / _STRIDE) * _STRIDE + 1


def _fits(step: _Step[Any], batch: Mapping[str, Any]) -> bool:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        step(batch)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True
