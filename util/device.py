"""The hardware to compute on: GPU or CPU, and its memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from util import operators
from util.errors import UserError
from util.logging import logger

# In the RuntimeErrors that torch raises on a GPU and on the CPU; oneDNN says no more than that it could not.
_NO_MEMORY = re.compile(
    "out of memory|can't allocate memory|not enough memory|ALLOC_FAILED|bad_alloc"
    "|could not (create|execute) a primitive$"
)


def choose_device(gpus: Sequence[int]) -> torch.device:
    """The GPU of ``TRAIN.train_gpu``, else the CPU; logs which, and the backends of the operators.

    ``[0]`` is the CPU where CUDA does not answer, ``[]`` is always the CPU. Raises ``UserError`` for several GPUs,
    which would need several processes, and for one that is not there.
    """
    _check(gpus)
    device = torch.device("cuda", gpus[0]) if gpus and torch.cuda.is_available() else torch.device("cpu")
    names = ", ".join(f"{name}: {backend}" for name, backend in operators.backends().items())
    logger.info("computing on %s; %s", device, names)
    return device


class DoesNotFitError(MemoryError):
    """Memory ran out; the message says for what, and what would fit."""


@contextmanager
def memory_for(keys: str) -> Iterator[None]:
    """Turn a failure of the block to allocate memory into a ``UserError`` that advises smaller values of ``keys``."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        known = f": {error}" if isinstance(error, DoesNotFitError) else ""
        raise UserError(f"memory ran out{known}; decrease {keys}") from error


def is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Whether Python, NumPy or torch, on a GPU or on the CPU, could not allocate memory."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def _check(gpus: Sequence[int]) -> None:
    title = f"TRAIN.train_gpu={list(gpus)}"
    if len(gpus) > 1:
        raise UserError(f"{title}: training and tests use one process and one GPU for now; set TRAIN.train_gpu=[0]")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and gpus[0] >= max(count, 1):
        advice = f"set TRAIN.train_gpu=[{count - 1}] or a lower number" if count > 1 else "set TRAIN.train_gpu=[0]"
        raise UserError(f"{title}: this machine has {count} GPUs that CUDA can use, counted from 0; {advice}")
