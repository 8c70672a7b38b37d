"""Keeping float32 where ``torch.autocast`` runs the rest in a shorter type."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def at_least_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Make ``function`` compute in the dtype of its tensors, 16-bit ones widened, regardless of autocast.

    For sums over thousands of positions, differences of similar numbers and comparisons, where 8 bits are too few.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast(_device(*args), enabled=False):
            widened_args = [widened(value) if isinstance(value, Tensor) else value for value in args]
            return function(*widened_args, **kwargs)  # type: ignore[arg-type]

    return wrapped


def widened(tensor: Tensor) -> Tensor:
    """A tensor of 16-bit floats as float32, any other as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _device(*args: object) -> str:
    return next(value.device.type for value in args if isinstance(value, Tensor))
