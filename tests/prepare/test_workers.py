"""Sharing work among processes, and what their mistakes become."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from prepare.workers import for_each, process_map
from util.errors import UserError
from util.files import write_text


def write(folder: Path, number: int) -> None:
    write_text(folder / f"{number}.txt", str(number))


def fill_disk(folder: Path, number: int) -> None:
    if number == 9:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "9.txt"))
    write(folder, number)


def write_slowly(folder: Path, number: int) -> None:
    time.sleep(0.02)
    write(folder, number)


def be_killed(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def square(number: int) -> int:
    return number**2


def sleep_long(folder: Path, number: int) -> None:
    (folder / f"{os.getpid()}").touch()
    time.sleep(60)


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_results_come_in_order(workers: int) -> None:
    assert list(process_map(square, range(5), workers)) == [0, 1, 4, 9, 16]
    assert list(process_map(square, [], workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_each_item_is_done(tmp_path: Path, workers: int) -> None:
    for_each(partial(write, tmp_path), range(40), workers=workers, title="numbers")
    assert sorted(int(path.read_text()) for path in tmp_path.iterdir()) == list(range(40))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_file_and_ends_the_work(tmp_path: Path, workers: int) -> None:
    with pytest.raises(OSError) as error:
        for_each(partial(fill_disk, tmp_path), range(2000), workers=workers, title="numbers")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "9.txt"))
    assert len(list(tmp_path.iterdir())) < 2000


def test_a_killed_process_is_one_line() -> None:
    with pytest.raises(UserError, match="a worker process was killed, probably because memory ran out"):
        for_each(be_killed, range(4), workers=2, title="numbers")


def test_ctrl_c_lets_processes_finish_what_they_write(tmp_path: Path) -> None:
    def press() -> None:
        """As a terminal does, for all processes."""
        while not any(tmp_path.glob("[!.]*")):
            time.sleep(0.01)
        for process in multiprocessing.active_children():
            os.kill(int(process.pid or 0), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        for_each(partial(write_slowly, tmp_path), range(2000), workers=2, title="numbers")
    assert not multiprocessing.active_children()
    assert all(path.read_text() == path.stem for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) < 2000


def test_no_process_outlives_a_killed_one(tmp_path: Path) -> None:
    parent = multiprocessing.get_context("fork").Process(target=_consume, args=(tmp_path,))
    parent.start()
    with _in_time():
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
    os.kill(parent.pid or 0, signal.SIGKILL)
    parent.join()
    workers = [int(path.name) for path in tmp_path.iterdir()]
    with _in_time():
        while any(_is_alive(worker) for worker in workers):
            time.sleep(0.01)


def _consume(folder: Path) -> None:
    list(process_map(partial(sleep_long, folder), range(16), 2))


def _is_alive(process: int) -> bool:
    """Whether the process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def _in_time() -> Iterator[None]:
    """Fail, rather than wait forever."""

    def fail(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
