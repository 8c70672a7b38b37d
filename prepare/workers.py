"""Work shared among processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2
from tqdm import tqdm

from util.errors import UserError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def for_each(function: Callable[[_Item], None], items: Sequence[_Item], *, workers: int, title: str) -> None:
    """Call ``function`` with each item, in ``workers`` processes (one: in this one), under a progress bar.

    Raises what ``process_map`` raises.
    """
    for _ in tqdm(process_map(function, items, workers), total=len(items), desc=title, unit="image"):
        pass


def process_map(function: Callable[[_Item], _Result], items: Sequence[_Item], workers: int) -> Iterator[_Result]:
    """``function`` of each item, in their order, by at most ``workers`` processes (1: by this one).

    What a process raises is raised here, and no item is started after that; ``UserError`` when one is killed.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        yield from map(function, items)
        return
    try:
        with ProcessPoolExecutor(workers, initializer=_start_worker) as pool:
            yield from pool.map(function, items, chunksize=8)
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, as happens when memory runs out; the same command continues, "
            "with fewer --workers it needs less"
        ) from None


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and the cores to the other workers; outlive nobody."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed closes no queue, and its workers would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
