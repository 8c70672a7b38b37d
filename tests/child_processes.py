"""Processes that a test has started, and what they have started."""

from __future__ import annotations

import subprocess

import psutil


def children(process: int) -> list[int]:
    """The numbers of those that a process has started, in the order in which it did."""
    return sorted(child.pid for child in psutil.Process(process).children())


def descendants(process: int) -> list[int]:
    """The numbers of those that it has started, and of what these have."""
    return [child.pid for child in psutil.Process(process).children(recursive=True)]


def read_until(process: subprocess.Popen[str], words: str) -> None:
    """Read what it says on stderr, a line after the other, up to the first that contains ``words``."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            return
    raise AssertionError(f"it ended with {process.wait()} and never said {words!r}:\n{''.join(said)}")
