"""Tells masks of one object with soft edges, label maps and pictures apart, by their grey levels alone.

The levels of a soft edge lie between two values in space as well as in number. Regions of a label are flat. In a
picture most levels are nowhere flat.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

_LEVELS = 256
_BLOCK = 1 << 22  # pixels that are counted at a time: np.bincount takes eight bytes for each
# Shares of the pixels: at the two values; at each of them, of its half of the levels; of the others, on edges.
_AT_BOTH, _AT_EACH, _ON_EDGES = 0.75, 0.25, 0.9
# A few levels on the edges between two values that are close to each other may be classes of outlines.
_FEW, _CLOSE = 3, 128
# From so many levels on, they may be a JPEG's ripples or a wide brush's edge, and a picture is told by them.
_MANY = 16
# Ripples: by how much of the distance between the two values they differ from one, and how far from an edge they are.
_RIPPLE, _RIPPLE_PIXELS = 1 / 8, 8
# The edge of a wide brush rises by less than a level per pixel, so flat is what is alike over this part of the image.
_EDGE_PART = 1 / 500


class TwoValues(NamedTuple):
    """The two values of a mask with soft edges; pixels from ``middle`` on belong to the higher one."""

    low: int
    high: int

    @property
    def middle(self) -> int:
        return (self.low + self.high + 1) // 2


def find_two_values(levels: np.ndarray, *, is_lossy: bool = False) -> TwoValues | None:
    """The two values of a mask whose other values are only on its edges; None for any other, and without other values.

    ``levels`` (H, W) uint8; ``is_lossy``: they were a JPEG's, so that other values are ripples anywhere.
    """
    counts = level_counts(levels)
    values = _two_commonest(counts)
    others = np.setdiff1d(np.flatnonzero(counts), values)
    if not others.size or not _are_main(counts, values):
        return None
    if is_lossy:
        return values
    if len(others) < _FEW and values.high - values.low < _CLOSE:
        return None
    if _are_on_edges(levels, values, radius=1):
        return values
    if len(others) >= _MANY and others[0] < values.middle <= others[-1]:
        step = max(1, round(max(levels.shape) * _EDGE_PART))
        is_flat = np.equal(*_neighbours(levels, step))
        if _are_on_edges(levels, values, radius=max(_RIPPLE_PIXELS, step), ripple=_ripple(values), is_flat=is_flat):
            return values
    return None


def is_picture(levels: np.ndarray) -> bool:
    """Whether most of many ``levels`` (H, W) uint8 are nowhere flat: no pixel is like all its neighbours."""
    present = np.count_nonzero(level_counts(levels))
    if present < _MANY:
        return False
    lowest, highest = _neighbours(levels, 1)
    flat = np.count_nonzero(level_counts(levels[lowest == highest]))
    return present - flat >= max(_MANY, present / 2)


def level_counts(levels: np.ndarray) -> np.ndarray:
    """Pixels of each level of ``levels`` (...) uint8: int64 (256,)."""
    counts = np.zeros(_LEVELS, dtype=np.int64)
    for start in range(0, levels.size, _BLOCK):
        counts += np.bincount(levels.reshape(-1)[start : start + _BLOCK], minlength=_LEVELS)
    return counts


def _two_commonest(counts: np.ndarray) -> TwoValues:
    """The commonest level, and the commonest that lies more than half the range away from it, in their order."""
    present = np.flatnonzero(counts)
    first = int(counts.argmax())
    far = present[2 * np.abs(present - first) > present[-1] - present[0]]
    second = int(far[counts[far].argmax()]) if far.size else first
    return TwoValues(min(first, second), max(first, second))


def _are_main(counts: np.ndarray, values: TwoValues) -> bool:
    """Whether most pixels are near the two values, and none outside."""
    ripple = _ripple(values)
    outside = counts[: max(0, values.low - ripple)].sum() + counts[values.high + ripple + 1 :].sum()
    lower, upper = counts[: values.middle], counts[values.middle :]
    at_low, at_high = lower[: values.low + ripple + 1].sum(), counts[values.high - ripple :].sum()
    most = at_low + at_high >= _AT_BOTH * counts.sum()
    return bool(not outside and most and at_low >= _AT_EACH * lower.sum() and at_high >= _AT_EACH * upper.sum())


def _ripple(values: TwoValues) -> int:
    return int((values.high - values.low) * _RIPPLE)


def _are_on_edges(
    levels: np.ndarray, values: TwoValues, *, radius: int, ripple: int = 0, is_flat: np.ndarray | bool = False
) -> bool:
    """Whether nearly all pixels between the two values have a lower and a higher one within ``radius``.

    Pixels that are flat, or differ from a value by no more than ``ripple``, do not count as on an edge or between.
    """
    between = (levels > values.low + ripple) & (levels < values.high - ripple)
    if not ripple and ((levels < values.low) | (levels > values.high)).any():
        return False
    lowest, highest = _neighbours(levels, radius)
    on_edges = between & (lowest < levels) & (levels < highest) & ~np.asarray(is_flat)
    return bool(on_edges.sum() >= _ON_EDGES * between.sum())


def _neighbours(levels: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest level within ``radius`` of each pixel."""
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), dtype=np.uint8)
    return cv2.erode(levels, kernel), cv2.dilate(levels, kernel)
