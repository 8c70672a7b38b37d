"""Reference values of the published computation, cut down, and the weights they were made with."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Endings of the published names of vectors that were drawn uniformly, the first that fits; the others are normal.
_UNIFORM = {"running_var": (0.75, 1.25), "bn3.weight": (0.2, 0.4), "weight": (0.8, 1.2)}


def load(name: str) -> dict[str, Any]:
    """The content of ``tests/golden/NAME.pt``."""
    values: dict[str, Any] = torch.load(Path(__file__).parent / f"{name}.pt", weights_only=True)
    return values


def weight(published_name: str, shape: torch.Size) -> Tensor:
    """The tensor that the published parameter of this name had: drawn with the name's checksum as the seed."""
    generator = torch.Generator().manual_seed(zlib.crc32(published_name.encode()))
    for ending, (low, high) in _UNIFORM.items():
        if len(shape) == 1 and published_name.endswith(ending):
            return low + (high - low) * torch.rand(shape, generator=generator)
    values = torch.randn(shape, generator=generator)
    if len(shape) == 4:
        return values * (2 / math.prod(shape[1:])) ** 0.5
    if len(shape) == 2:
        is_small = "sampling_offsets" in published_name or "attention_weights" in published_name
        return values * (0.02 if is_small else shape[1] ** -0.5)
    deviations = {"sampling_offsets.bias": 2.0, "running_mean": 0.1}
    return values * next((value for ending, value in deviations.items() if published_name.endswith(ending)), 0.05)


def fill(module: nn.Module, names: dict[str, str]) -> None:
    """Give every parameter of ``module`` its published weight; ``names`` maps module names to published ones."""
    for name, parameter in module.named_parameters():
        stem, _, kind = name.rpartition(".")
        parameter.data = weight(f"{names[stem]}.{kind}", parameter.shape)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """|ours - theirs| / |theirs|."""
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return float((ours - theirs).norm() / theirs.norm())
