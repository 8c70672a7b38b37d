"""Batches of episodes; the number of worker processes that read them changes nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from episodes.episode import EpisodeKey, EpisodeSampler, collate
from util.errors import UserError
from util.seed import torch_random


class EpisodeLoader:
    """Iterates over batches; ``len()`` is their number.

    A ``UserError`` in a worker is raised here unchanged: one line, not wrapped in the text of a traceback.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch


def make_loader(
    dataset: Dataset[Any],
    *,
    epoch: int,
    episodes: int,
    batch_size: int,
    workers: int,
    drop_last: bool,
    first_batch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    join: Callable[[list[Any]], Any] = collate,
) -> EpisodeLoader:
    """The episodes (epoch, 0..episodes-1) of ``dataset`` in order, ``batch_size`` at a time, which ``join`` makes one.

    Batches before ``first_batch`` are left out, and their episodes are not read.

    Neither ``workers`` nor ``batch_size`` changes an episode, and no global random generator is used. Of ``world_size``
    processes this one reads the batches of ``rank`` (``EpisodeSampler``).
    """
    sampler = EpisodeSampler(
        epoch=epoch,
        episodes=episodes,
        batch_size=batch_size,
        drop_last=drop_last,
        first_batch=first_batch,
        rank=rank,
        world_size=world_size,
    )
    loader = DataLoader(
        _CatchUserErrors(dataset),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=partial(_join_or_error, join=join),
        worker_init_fn=_start_worker,
        generator=torch_random("loader"),
        pin_memory=torch.cuda.is_available(),
    )
    return EpisodeLoader(loader)


class _CatchUserErrors(Dataset[Any]):
    """Passes a ``UserError`` on as a value: raised in a worker, it would arrive wrapped in a traceback."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: EpisodeKey) -> Any:
        try:
            return self.dataset[key]
        except UserError as error:
            return error


def _join_or_error(items: list[Any], join: Callable[[list[Any]], Any]) -> Any:
    return next((item for item in items if isinstance(item, UserError)), None) or join(items)


def _start_worker(worker: int) -> None:
    """One thread per worker: more would compete for the cores. The loader itself limits torch's threads.

    Signals are the parent's: Ctrl-C and Slurm send them to all processes, and a training needs a worker until it has
    saved. Workers end with their parent.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # it was killed meanwhile: torch will watch over whoever has adopted this process, for ever
    cv2.setNumThreads(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    sys.excepthook = _report_unless_abandoned


def _report_unless_abandoned(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A thread of a worker sends tensors; a parent that is interrupted while it receives one wants none of them."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)
