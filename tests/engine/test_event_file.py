"""What TensorBoard's file holds, and when."""

from __future__ import annotations

import errno
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from engine.event_file import EventFile
from tests.engine.test_trainer import events as read_events
from tests.engine.test_trainer import points


def test_no_point_no_file(tmp_path: Path) -> None:
    with closing(EventFile(tmp_path / "tensorboard", 1)) as events:
        events.flush()
    assert not list(tmp_path.iterdir())


def test_the_first_point_is_on_the_disk_at_once_and_all_after_flush(tmp_path: Path) -> None:
    """A process may be killed: it leaves neither an empty file nor a checkpoint whose points are lost."""
    with closing(EventFile(tmp_path / "tensorboard", 5)) as events:
        events.add_scalar("a", 0.5, 5)
        assert points(tmp_path) == {"a": [5]}
        for iteration in range(6, 200):
            events.add_scalar("a", 0.5, iteration)
        events.flush()
        assert points(tmp_path) == {"a": [*range(5, 200)]}
        events.add_scalar("b", 0.5, 200)
    assert points(tmp_path)["b"] == [200]


def test_two_processes_have_two_files(tmp_path: Path) -> None:
    for first in (1, 7):
        with closing(EventFile(tmp_path / "tensorboard", first)) as events:
            events.add_scalar("a", 0.5, first)
    assert points(tmp_path) == {"a": [1, 7]}


def test_files_are_in_the_order_of_the_run_whatever_the_clock_says(tmp_path: Path) -> None:
    """TensorBoard reads them in the order of their names, and drops what a later one repeats."""
    for first, seconds in ((1, 2000000000.5), (7, 2000000000.7), (5, 1000000000.0)):
        with patch("engine.event_file.time.time", lambda seconds=seconds: seconds):
            with closing(EventFile(tmp_path / "tensorboard", first)) as events:
                events.add_scalar("a", 0.5, first)
    assert [event.step for event in read_events(tmp_path) if event.HasField("session_log")] == [1, 7, 5]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with closing(EventFile(tmp_path / "tensorboard", 1)) as events:
        events.add_scalar("a", 0.5, 1)
        (path,) = (tmp_path / "tensorboard").iterdir()
        full = OSError(errno.ENOSPC, "No space left on device")
        with patch.object(events._writer, "flush", side_effect=full), pytest.raises(OSError, match="No space") as error:
            events.flush()
    assert error.value.filename == str(path)
