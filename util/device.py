"""The hardware to compute on: GPUs, cores."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from util import native
from util.logging import logger


def choose_device(gpus: Sequence[int]) -> torch.device:
    """The first of the listed GPUs where CUDA answers, else the CPU; logs which, and the backends of the operators."""
    device = torch.device("cuda", gpus[0]) if gpus and torch.cuda.is_available() else torch.device("cpu")
    operators = ", ".join(f"{name}: {backend}" for name, backend in native.backends().items())
    logger.info("computing on %s; %s", device, operators)
    return device


def available_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
