"""Which device to compute on."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def choose_device(gpus: Sequence[int]) -> torch.device:
    """The first of the listed GPUs where CUDA answers, else the CPU."""
    return torch.device("cuda", gpus[0]) if gpus and torch.cuda.is_available() else torch.device("cpu")
