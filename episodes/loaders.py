"""Batches of episodes; the number of worker processes that read them changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from episodes.closed_labels import in_worker
from episodes.episode import EpisodeKey, EpisodeSampler, collate
from episodes.loader_workers import read_batches, shared, start_worker
from util.distributed import own_workers, rank, world_size
from util.errors import UserError
from util.seed import torch_random


class EpisodeLoader:
    """Iterates over batches; ``len()`` is their number.

    Raises what ``read_batches`` raises.
    """

    def __init__(self, loader: DataLoader[Any], sampler: EpisodeSampler) -> None:
        self._loader = loader
        self._sampler = sampler

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        yield from read_batches(self._loader, "TRAIN.workers")

    def numbered(self) -> Iterator[tuple[int, Any]]:
        """Each batch with the number of its first episode."""
        for numbers, batch in zip(self._sampler.batches, self, strict=True):
            yield numbers.start, batch


def make_loader(
    dataset: Dataset[Any],
    *,
    epoch: int,
    episodes: int,
    batch_size: int,
    workers: int,
    drop_last: bool,
    first_batch: int = 0,
    join: Callable[[list[Any]], Any] = collate,
) -> EpisodeLoader:
    """The episodes (epoch, 0..episodes-1) of ``dataset`` in order, ``batch_size`` at a time, which ``join`` makes one.

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
        collate_fn=partial(_join_or_error, join=join),
        worker_init_fn=in_worker(start_worker),
        generator=torch_random("loader"),
        pin_memory=torch.cuda.is_available(),
    )
    return EpisodeLoader(loader, sampler)


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
    return next((item for item in items if isinstance(item, UserError)), None) or shared(join(items))
