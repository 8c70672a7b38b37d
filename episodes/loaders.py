"""Batches of episodes; the number of worker processes that read them changes nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from types import TracebackType

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from episodes.episode import Batch, Episode, EpisodeKey, EpisodeSampler, collate
from util.distributed import own_workers, rank, world_size
from util.errors import UserError
from util.seed import torch_random


class EpisodeLoader:
    """Iterates over batches; ``len()`` is their number.

    A ``UserError`` in a worker is raised here unchanged: one line, not wrapped in the text of a traceback.
    """

    def __init__(self, loader: DataLoader[Episode | UserError], sampler: EpisodeSampler) -> None:
        self._loader = loader
        self._sampler = sampler

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch

    def numbered(self) -> Iterator[tuple[int, Batch]]:
        """Each batch with the number of its first episode."""
        for numbers, batch in zip(self._sampler.batches, self, strict=True):
            yield numbers.start, batch


def make_loader(
    dataset: Dataset[Episode],
    *,
    epoch: int,
    episodes: int,
    batch_size: int,
    workers: int,
    drop_last: bool,
    first_batch: int = 0,
) -> EpisodeLoader:
    """The episodes (epoch, 0..episodes-1) of ``dataset`` in order, ``batch_size`` at a time.

    Batches before ``first_batch`` are left out, and their episodes are not read.

    Neither ``workers`` nor ``batch_size`` changes an episode, and no global random generator is used. Of several
    processes this one reads its own batches (``EpisodeSampler``), with its share of the machine's ``workers``.
    """
    sampler = EpisodeSampler(
        epoch=epoch,
        episodes=episodes,
        batch_size=batch_size,
        drop_last=drop_last,
        first_batch=first_batch,
        rank=rank(),
        world_size=world_size(),
    )
    loader = DataLoader(
        _CatchUserErrors(dataset),
        batch_sampler=sampler,
        num_workers=own_workers(workers),
        collate_fn=_collate_or_error,
        worker_init_fn=_start_worker,
        generator=torch_random("loader"),
        pin_memory=torch.cuda.is_available(),
    )
    return EpisodeLoader(loader, sampler)


class _CatchUserErrors(Dataset[Episode | UserError]):
    """Passes a ``UserError`` on as a value: raised in a worker, it would arrive wrapped in a traceback."""

    def __init__(self, dataset: Dataset[Episode]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: EpisodeKey) -> Episode | UserError:
        try:
            return self.dataset[key]
        except UserError as error:
            return error


def _collate_or_error(items: Sequence[Episode | UserError]) -> Batch | UserError:
    for item in items:
        if isinstance(item, UserError):
            return item
    return collate([item for item in items if not isinstance(item, UserError)])


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
