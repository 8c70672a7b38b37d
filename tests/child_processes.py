"""The processes that a process has started (Linux)."""

from __future__ import annotations

from pathlib import Path


def children(process: int) -> list[int]:
    """Their numbers, in the order in which they were started."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def descendants(process: int) -> list[int]:
    """Those, and what they have started."""
    return [number for child in children(process) for number in (child, *descendants(child))]
