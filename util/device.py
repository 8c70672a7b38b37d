"""The hardware to compute on: GPU or CPU, and its memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from util import operators
from util.distributed import local_world_size
from util.errors import UserError
from util.logging import logger
from util.processes import torchrun_number

# In the RuntimeErrors that torch raises on a GPU and on the CPU; oneDNN says no more than that it could not.
_NO_MEMORY = re.compile(
    "out of memory|can't allocate memory|not enough memory|ALLOC_FAILED|bad_alloc"
    "|could not (create|execute) a primitive$"
)


def choose_device(gpus: Sequence[int]) -> torch.device:
    """The GPU of ``TRAIN.train_gpu`` that is this process's, else the CPU; logs it, and the operators' backends.

    ``[0]`` is the CPU where CUDA does not answer, ``[]`` is always the CPU. Several processes on a machine have a GPU
    each: of several numbers their own, of a single one this and those after it. Raises ``UserError`` for a GPU that is
    not there and for several numbers that are not as many as the processes.
    """
    require_gpus(gpus)
    own = _own_gpus(gpus)
    device = torch.device("cuda", own[0]) if own else torch.device("cpu")
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


def require_gpus(gpus: Sequence[int]) -> None:
    """Raise ``UserError`` for a GPU of ``TRAIN.train_gpu`` that is not there; ``[0]`` may stand for the CPU."""
    count = usable_gpus()
    missing = [gpu for gpu in gpus if gpu >= count]
    if missing and not (count == 0 and [*gpus] == [0]):
        advice = f"use those from 0 to {count - 1}" if count > 1 else "set TRAIN.train_gpu=[0]"
        raise UserError(
            f"TRAIN.train_gpu={[*gpus]}: this machine has {count} GPUs that CUDA can use, not one of number "
            f"{missing[0]}; {advice}"
        )


def usable_gpus() -> int:
    """How many GPUs CUDA can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _own_gpus(gpus: Sequence[int]) -> list[int]:
    """The number of this process's GPU, or none."""
    if not gpus or not torch.cuda.is_available():
        return []
    place, processes = torchrun_number("LOCAL_RANK", least=0, default=0), local_world_size()
    if len(gpus) == 1:
        require_gpus([gpus[0] + place])
        return [gpus[0] + place]
    if len(gpus) != processes or len(set(gpus)) < len(gpus):
        raise UserError(f"TRAIN.train_gpu={[*gpus]}: {processes} processes are here, as many different GPUs expected")
    return [gpus[place]]
