"""The outlines of COCO's annotations: polygons and run lengths (RLE), checked and made compact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from util.errors import UserError

# The largest coordinate: pycocotools follows an outline pixel by pixel, in 32-bit numbers.
_PYCOCOTOOLS_LIMIT = 1e6
ADVICE = "correct the file or download it again"
_KINDS = {int: "a whole number", str: "a string", list: "a list"}

_Kind = TypeVar("_Kind")


class RunLengths(NamedTuple):
    """A mask, column by column: the number of pixels outside, then inside, then outside and so on.

    ``size`` is [height, width], ``counts`` uint32 (n,) with height * width as its sum.
    """

    size: list[int]
    counts: np.ndarray


CocoSegmentation = list[np.ndarray] | RunLengths
"""Polygons, each float64 (2n,): x, y, x, y, ..., or run lengths."""


def read_segmentation(segmentation: Any, place: str) -> CocoSegmentation:
    """The outline in an annotation's "segmentation"; raises ``UserError``, which begins with ``place``."""
    if isinstance(segmentation, list):
        return [_polygon(points, place) for points in segmentation]
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation, place)
    raise UserError(f"{place}: 'segmentation' is neither a list of polygons nor run lengths (RLE); {ADVICE}")


def _polygon(points: Any, place: str) -> np.ndarray:
    try:
        polygon = np.asarray(points, dtype=np.float64)
        valid = polygon.ndim == 1 and polygon.size % 2 == 0 and bool(np.all(np.abs(polygon) <= _PYCOCOTOOLS_LIMIT))
    except (TypeError, ValueError, OverflowError):
        valid = False
    if not valid:
        raise UserError(f"{place}: a polygon is not a list x, y, x, y, ... of pixels; {ADVICE}")
    return polygon


def _run_lengths(entry: Mapping[str, Any], place: str) -> RunLengths:
    """Check what pycocotools does not: it fills run lengths of too few pixels with whatever is in memory."""
    size, counts = checked_value(entry, "size", list, place), entry.get("counts")
    lengths = np.asarray(
        _decompress(counts) if isinstance(counts, str) else checked_value(entry, "counts", list, place)
    )
    valid = len(size) == 2 and all(isinstance(side, int) for side in size)
    valid = valid and lengths.ndim == 1 and lengths.dtype.kind in "iu" and bool(np.all(lengths >= 0))
    if not valid or int(lengths.sum()) != size[0] * size[1]:
        raise UserError(f"{place}: the run lengths (RLE) are not those of {size} pixels (height, width); {ADVICE}")
    return RunLengths(size, lengths.astype(np.uint32))


def _decompress(text: str) -> list[int]:
    """Run lengths from COCO's text form: a character holds five bits of a number, and whether more bits follow.

    The last character of a number has its sign; from the fourth on, numbers are differences to the last but one.
    """
    lengths: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        number |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            number -= (bits & 0x10) << (shift - 4)  # the sign's weight is minus the next power of two
            lengths.append(number + lengths[-2] if len(lengths) > 2 else number)
            number = shift = 0
    return lengths


def checked_value(entry: Mapping[str, Any], key: str, kind: type[_Kind], place: str) -> _Kind:
    """The value of ``key`` in a JSON object; raises ``UserError``, which begins with ``place``, for another kind."""
    value = entry.get(key)
    if not isinstance(value, kind):
        raise UserError(f"{place}: '{key}' is missing or not {_KINDS[kind]}; {ADVICE}")
    return value
