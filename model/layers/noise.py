"""Dropout that does not depend on how a batch is divided.

Among processes that share a batch, and where a batch is computed in parts, each draws the noise of the whole batch and
takes its own rows. So the network learns the same, up to rounding, and all processes leave their random generators in
one state, whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from util.distributed import rank, world_size

_part, _parts = 0, 1  # of the rows of this process


@contextmanager
def part_of_batch(index: int, count: int, device: torch.device) -> Iterator[None]:
    """The block computes, on ``device``, part ``index`` of ``count`` equal parts of the rows of this process.

    All parts draw from the same state of torch's global generators.
    """
    global _part, _parts
    _part, _parts = index, count
    gpus = [device] if device.type == "cuda" else []
    try:
        with nullcontext() if in_last_part() else torch.random.fork_rng(gpus):
            yield
    finally:
        _part, _parts = 0, 1


def in_last_part() -> bool:
    """Whether no part of the batch follows: what is counted by batches is counted here."""
    return _part == _parts - 1


def own_rows(draw: Callable[[int], Tensor], rows: int) -> Tensor:
    """The ``rows`` of this part of the batch, from what ``draw(number of rows)`` draws for all of it."""
    first = (rank() * _parts + _part) * rows
    return draw(world_size() * _parts * rows)[first : first + rows]


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """``torch.nn.functional.dropout`` of ``x`` (rows of the batch, ...)."""
    return _dropped(x, probability, tuple(x.shape[1:])) if training and probability > 0 else x


class Dropout(nn.Module):
    """``torch.nn.Dropout`` of rows of the batch."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """(rows, ...) -> the same shape"""
        return dropout(x, self.probability, self.training)


class ChannelDropout(Dropout):
    """``torch.nn.Dropout2d``: whole channels of feature maps."""

    def forward(self, x: Tensor) -> Tensor:
        """(rows, C, h, w) -> the same shape"""
        return _dropped(x, self.probability, (x.shape[1], 1, 1)) if self.training else x


def _dropped(x: Tensor, probability: float, shape: tuple[int, ...]) -> Tensor:
    """``x`` times noise of ``shape`` for each row, 0 or 1, rescaled: the numbers of torch's own functions on a CPU."""
    kept = own_rows(lambda rows: x.new_empty(rows, *shape).bernoulli_(1 - probability), len(x))
    return (x * kept).mul_(1 / (1 - probability))
