"""Worker processes that read batches: how they start, and what a loader says when one dies."""

from __future__ import annotations

import atexit
import errno
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import cv2
from torch import Tensor
from torch.utils._pytree import tree_map_only
from torch.utils.data import DataLoader

from util.errors import UserError

# A worker that no longer answers is dead after that time.
_DYING_SECONDS = 2
# Signals that workers leave to their parent.
_OF_THE_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def read_batches(loader: DataLoader[Any], workers_key: str) -> Iterator[Any]:
    """The batches of a loader whose workers return the ``UserError`` that they meet, which is raised here unchanged.

    Also raises ``UserError`` where the system has killed a worker, and where shared memory runs out; it advises fewer
    of what ``workers_key`` sets. Nothing is raised while a batch is used: a step that has begun is finished.
    """
    with _explained_death([], workers_key), _signals_held_back():
        batches = iter(loader)
    watch, workers = _watch_over_workers(), getattr(batches, "_workers", [])
    try:
        while True:
            with _explained_death(workers, workers_key):
                batch = _next(batches, watch)
            if batch is None:
                return
            if isinstance(batch, UserError):
                raise batch
            with watch.deferred():
                yield batch
    finally:
        _end(batches)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """What comes while workers start waits for the end of the block, and in a worker until it is ignored.

    torchrun and Slurm send TERM to all processes: one that was not yet deaf to it would end the training.
    """
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


class _Watch:
    """A handler of SIGCHLD: that of torch, ``check``, which raises where a worker has died, or later."""

    def __init__(self, check: Callable[[int, FrameType | None], object]) -> None:
        self.check = check
        self._is_deferred = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self._is_deferred:
            self.check(number, frame)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Note nothing in the block."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False


def _watch_over_workers() -> _Watch:
    """Replace the handler that torch sets when it starts the first workers."""
    handler = signal.getsignal(signal.SIGCHLD)
    if isinstance(handler, _Watch):
        return handler
    if not callable(handler):
        return _Watch(lambda number, frame: None)  # there are no workers
    watch = _Watch(handler)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, watch)
    return watch


def _next(batches: Iterator[Any], watch: _Watch) -> Any:
    watch.check(signal.SIGCHLD, None)  # for those that died during the last step
    try:
        return next(batches, None)
    except (ConnectionError, EOFError):
        time.sleep(_DYING_SECONDS)  # raises when the worker that does not answer is dead
        raise


@contextmanager
def _explained_death(workers: Sequence[multiprocessing.Process], workers_key: str) -> Iterator[None]:
    """Turn what torch raises in the block when a worker is dead into a ``UserError`` about what it died of."""
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        codes = [worker.exitcode for worker in workers]
        is_full = "shared memory" in str(error) or (isinstance(error, OSError) and error.errno == errno.ENOSPC)
        if is_full or -signal.SIGBUS in codes:
            raise UserError(
                "/dev/shm is full: through it the processes that read images pass them on; make it larger (docker run "
                f"--shm-size=8g), or decrease {workers_key}, with 0 it is not needed; then run the same command again"
            ) from error
        if -signal.SIGKILL in codes:
            raise UserError(
                "the system has killed a process that reads images, most likely because memory ran out; free some or "
                f"decrease {workers_key}, then run the same command again"
            ) from error
        raise


def _end(batches: Iterator[Any]) -> None:
    """End the workers as torch does when ``batches`` is deleted, which the traceback of an error delays.

    Collected as garbage it would wait ten seconds for each.
    """
    getattr(batches, "_shutdown_workers", lambda: None)()


@atexit.register
def _end_all_workers() -> None:
    """End those of loaders that an error has left where they were: torch would wait for them as well."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def shared(batch: Any) -> Any:
    """A batch as a worker passes it on: torch would move it to shared memory in a thread, where an error is lost."""
    if multiprocessing.parent_process() is None:
        return batch
    return tree_map_only(Tensor, Tensor.share_memory_, batch)


def start_worker(worker: int) -> None:
    """One thread per worker: more would compete for the cores. The loader itself limits torch's threads.

    Signals are the parent's: Ctrl-C and Slurm send them to all processes, and a training needs a worker until it has
    saved. Workers end with their parent.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # it was killed meanwhile: torch will watch over whoever has adopted this process, for ever
    cv2.setNumThreads(0)
    for number in _OF_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_PARENT)
    sys.excepthook = _report_unless_abandoned


def _report_unless_abandoned(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A thread of a worker sends tensors; a parent that is interrupted while it receives one wants none of them."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)
