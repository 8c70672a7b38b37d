"""Processes that share one task, started by torchrun; without torchrun the process is a group of one.

    torchrun --nproc_per_node 4 -m masks.create ROOT DATASET

Every process runs the same code on its share. Only the first logs and draws progress bars. When one fails, it
reports why and all end.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous

from util.locks import only_process_in
from util.logging import logger
from util.processes import torchrun_number

T = TypeVar("T")

# How long one process may wait for another. When one fails, torchrun ends the others at once.
_PATIENCE = timedelta(days=2)
_PATIENCE_AFTER_FAILURE = 60  # seconds


class _LostProcessError(Exception):
    """An exchange failed, because another process is gone. It, or torchrun, says why."""


@contextmanager
def joined_processes() -> Iterator[None]:
    """Join the processes that torchrun started and leave them at the end (``util.processes.process_group``)."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store, own_rank, processes = next(rendezvous("env://", timeout=_PATIENCE))
    distributed.init_process_group(
        backend, store=distributed.PrefixStore("group", store), rank=own_rank, world_size=processes, timeout=_PATIENCE
    )
    if own_rank > 0:
        logger.setLevel(logging.ERROR)
    try:
        yield
    except _LostProcessError as loss:
        time.sleep(_PATIENCE_AFTER_FAILURE)  # torchrun ends this process meanwhile
        raise loss.__cause__ or loss from None
    except Exception:
        # The first to fail reports why. The others fail for the same reason: they wait for torchrun to end them, which
        # happens once the first is gone.
        first_to_fail = int(store.compare_set("failed", "", str(own_rank)))
        if first_to_fail != own_rank:
            time.sleep(_PATIENCE_AFTER_FAILURE)
            sys.exit(1)
        raise
    distributed.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def local_world_size() -> int:
    """The number of processes on this machine."""
    return torchrun_number("LOCAL_WORLD_SIZE", least=1, default=1)


def describe_processes() -> str:
    """How many work together, for messages; empty where one works alone."""
    return f" in {world_size()} processes" if world_size() > 1 else ""


def only_group_in(folder: Path, lock: str = ".lock") -> AbstractContextManager[None]:
    """Keep other commands out of ``folder`` (``util.locks``): the first process takes the lock for all."""
    return only_process_in(folder, lock) if rank() == 0 else nullcontext()


def own_device() -> torch.device:
    """The GPU of this process where CUDA answers, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torchrun_number("LOCAL_RANK", least=0, default=0) % torch.cuda.device_count())


def summed(tensor: Tensor) -> Tensor:
    """The sum of the processes' tensors, of one shape and dtype, on the CPU or a GPU; ``tensor`` may be overwritten."""
    if world_size() > 1:
        with _exchange():
            distributed.all_reduce(tensor)
    return tensor


def highest(numbers: Sequence[int]) -> list[int]:
    """The highest of the processes' numbers, place by place, without waiting for a GPU."""
    if world_size() == 1:
        return [*numbers]
    tensor = torch.tensor(numbers)
    with _exchange():
        distributed.all_reduce(tensor, op=distributed.ReduceOp.MAX)
    return tensor.tolist()


def gathered(value: Any) -> list[Any]:
    """The processes' values in the order of their ranks, each small and made of plain Python or numpy."""
    values = [value] * world_size()
    if world_size() > 1:
        with _exchange():
            distributed.all_gather_object(values, value)
    return values


def from_first(value: T) -> T:
    """The first process's ``value``, which can be pickled, on every process; the values of the others are ignored."""
    values = [value]
    if world_size() > 1:
        with _exchange():
            distributed.broadcast_object_list(values, src=0)
    return values[0]


def done_by_first(function: Callable[[], T]) -> T:
    """What ``function`` returns on the first process, on every process; the others do not call it."""
    return from_first(function() if rank() == 0 else None)  # type: ignore[return-value]


def joined(tensor: Tensor) -> Tensor:
    """The processes' tensors, of one shape and dtype, concatenated in the order of their ranks.

    (B, ...) -> (world size * B, ...) on the same device, without a gradient.
    """
    if world_size() == 1:
        return tensor.detach()
    own = tensor.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(world_size())]
    with _exchange():
        distributed.all_gather(parts, own)
    return torch.cat(parts)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every parameter the processes' average gradient; those without a gradient are skipped.

    All gradients are added at once, always in the same order. DistributedDataParallel determines its order in the
    first step after a start: with three processes, a resumed run would not be bit-identical.
    """
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    average = summed(torch.cat([gradient.flatten() for gradient in gradients])) / world_size()
    parts = average.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view(gradient.shape))


def average_statistics(module: nn.Module) -> None:
    """Give the running statistics of all batch norms in ``module`` the processes' average."""
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(summed(buffer.clone()) / world_size())


def wait_for_all() -> None:
    """Return when every process has called this."""
    if world_size() > 1:
        with _exchange():
            distributed.barrier()


def own_workers(workers: int) -> int:
    """This process's equal part of a machine's loader ``workers``, rounded up."""
    return -(-workers // local_world_size())


@contextmanager
def _exchange() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise _LostProcessError("another process is gone") from error
