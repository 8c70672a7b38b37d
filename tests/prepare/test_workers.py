"""Sharing work among processes, and what their mistakes become."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from prepare.workers import for_each
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
    with pytest.raises(UserError, match="a worker process was killed, as happens when memory runs out"):
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
