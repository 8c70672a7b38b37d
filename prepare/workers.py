"""Work shared among worker processes."""

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
    """Call ``function`` with each item, in ``workers`` processes (1: in this one), with a progress bar.

    Raises what ``process_map`` raises.
    """
    for _ in tqdm(process_map(function, items, workers), total=len(items), desc=title, unit="image"):
        pass


def process_map(function: Callable[[_Item], _Result], items: Sequence[_Item], workers: int) -> Iterator[_Result]:
    """The results of ``function`` for the items, in their order, from at most ``workers`` processes (1: this one).

    An exception in a process is raised here, and no item is started after it. Raises ``UserError`` when a process is
    killed.
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
            "a worker process was killed, probably because memory ran out; the same command continues, "
            "and needs less memory with fewer --workers"
        ) from None


def _start_worker() -> None:
    """Leave Ctrl-C to the parent and the cores to the other workers; end when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent ends: a killed parent closes no queue, and workers would wait forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
