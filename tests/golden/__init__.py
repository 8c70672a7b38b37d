"""Reference values of the published computation, cut down, and the weights they were made with."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def load(name: str) -> dict[str, Any]:
    """The content of ``tests/golden/NAME.pt``."""
    values: dict[str, Any] = torch.load(Path(__file__).parent / f"{name}.pt", weights_only=True)
    return values


def weight(published_name: str, shape: torch.Size) -> Tensor:
    """The tensor that the published parameter of this name had: drawn with the name's checksum as the seed."""
    generator = torch.Generator().manual_seed(zlib.crc32(published_name.encode()))
    values = torch.randn(shape, generator=generator)
    if len(shape) == 2:
        is_small = "sampling_offsets" in published_name or "attention_weights" in published_name
        return values * (0.02 if is_small else shape[1] ** -0.5)
    return values * (2.0 if published_name == "sampling_offsets.bias" else 0.05)


def fill(module: nn.Module, names: dict[str, str]) -> None:
    """Give every parameter of ``module`` its published weight; ``names`` maps module names to published ones."""
    for name, parameter in module.named_parameters():
        stem, _, kind = name.rpartition(".")
        parameter.data = weight(f"{names[stem]}.{kind}", parameter.shape)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """|ours - theirs| / |theirs|."""
    return float((ours.detach().double() - theirs.double()).norm() / theirs.double().norm())
