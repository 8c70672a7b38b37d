"""Several processes that work on one thing, started by torchrun; a process of its own is a group of one.

    torchrun --nproc_per_node 4 -m masks.create ROOT DATASET

Every process runs the same code on its share. Only the first logs and draws progress bars.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from util.logging import logger

# How long one process may wait for another. When one fails, torchrun ends the others at once.
_PATIENCE = timedelta(days=2)


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started and leave them at the end; without torchrun do nothing."""
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    if rank() > 0:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def own_device() -> torch.device:
    """The GPU of this process where CUDA answers, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def summed(tensor: Tensor) -> Tensor:
    """The sum of the processes' tensors, of one shape and dtype, on the CPU or a GPU; ``tensor`` may be overwritten."""
    if world_size() > 1:
        distributed.all_reduce(tensor)
    return tensor


def gathered(value: Any) -> list[Any]:
    """The processes' values in the order of their ranks, each small and made of plain Python or numpy."""
    values = [value] * world_size()
    if world_size() > 1:
        distributed.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world_size() > 1:
        distributed.barrier()
