"""Parts of a batch of episodes, of images or of their features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def part_of(batch: Mapping[str, Any], first: int, count: int) -> dict[str, Any]:
    """``count`` episodes of a batch from number ``first`` on.

    Every field has as many rows for each episode, one, or one for each shot; pairs of tensors are features.
    """
    episodes = len(batch["class_id"])

    def cut(rows: Any) -> Any:
        each = len(rows) // episodes
        return rows[first * each : (first + count) * each]

    return {name: tuple(map(cut, value)) if isinstance(value, tuple) else cut(value) for name, value in batch.items()}


def equal_parts(batch: Mapping[str, Any], parts: int) -> Iterator[dict[str, Any]]:
    """A batch that can be divided by ``parts``, in order."""
    count = len(batch["class_id"]) // parts
    for number in range(parts):
        yield part_of(batch, number * count, count)
