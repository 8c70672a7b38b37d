"""The outlines of COCO's annotations: polygons and run lengths (RLE), checked and made compact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from prepare.json_values import check_outline, checked_value, whole
from util.errors import UserError, shown
from util.images.image_files import PIXEL_LIMIT

ADVICE = "correct the file or download it again"
# The most bits of a run length, and those in each of its characters.
_LENGTH_BITS, _CHARACTER_BITS = 32, 5


class RunLengths(NamedTuple):
    """A mask, column by column: the number of pixels outside, then inside, then outside and so on.

    ``size`` is [height, width], ``counts`` uint32 (n,) with height * width as its sum.
    """

    size: list[int]
    counts: np.ndarray


CocoSegmentation = list[np.ndarray] | RunLengths
"""Polygons, each float64 (2n,): x, y, x, y, ..., or run lengths."""


def read_segmentation(segmentation: Any, place: str) -> CocoSegmentation:
    """The outline in an annotation's "segmentation", without polygons if that is None or empty.

    Raises ``UserError``, which begins with ``place``.
    """
    if segmentation is None or segmentation == {}:
        return []
    if isinstance(segmentation, list):
        return [_polygon(points, place) for points in segmentation]
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation, place)
    raise UserError(f"{place}: 'segmentation' is neither a list of polygons nor run lengths (RLE); {ADVICE}")


def _polygon(points: Any, place: str) -> np.ndarray:
    try:
        polygon = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        polygon = np.zeros(1)
    if polygon.ndim != 1 or polygon.size % 2:
        raise UserError(f"{place}: a polygon is not a list x, y, x, y, ... of pixels; {ADVICE}")
    check_outline(polygon, place, ADVICE)
    return polygon


def _run_lengths(entry: Mapping[str, Any], place: str) -> RunLengths:
    """Check what pycocotools does not: it fills run lengths of too few pixels with whatever is in memory."""
    size = [whole(side) for side in checked_value(entry, "size", list, place, ADVICE)]
    sides = [side for side in size if side is not None and side > 0]
    lengths = _lengths(entry, place)
    pixels = sides[0] * sides[1] if len(sides) == len(size) == 2 else 0
    # Each is compared before their sum, which is exact then.
    if not 0 < pixels <= PIXEL_LIMIT or not np.all((lengths >= 0) & (lengths <= pixels)) or lengths.sum() != pixels:
        raise UserError(
            f"{place}: the run lengths (RLE) are not those of {shown(entry['size'])} pixels (height, width); {ADVICE}"
        )
    return RunLengths(sides, lengths.astype(np.uint32))


def _lengths(entry: Mapping[str, Any], place: str) -> np.ndarray:
    """The run lengths, int64 (n,), whatever they add up to."""
    counts = entry.get("counts")
    try:
        if isinstance(counts, str):
            return np.array(_decompress(counts), dtype=np.int64)
        lengths = np.asarray(checked_value(entry, "counts", list, place, ADVICE))
        if lengths.ndim == 1 and lengths.dtype.kind in "iu":
            return lengths.astype(np.int64)
    except (ValueError, OverflowError):
        pass
    raise UserError(f"{place}: the run lengths (RLE) are neither numbers nor COCO's text form of them; {ADVICE}")


def _decompress(text: str) -> list[int]:
    """Run lengths from COCO's text form: a character holds five bits of a number, and whether more bits follow.

    The last character of a number has its sign; from the fourth on, numbers are differences to the last but one.
    Raises ``ValueError`` for other characters, and for a number that is too large: one of a million characters would
    take minutes.
    """
    if text and not "0" <= min(text) <= max(text) <= "o":
        raise ValueError("a character is none of the text form's")
    lengths: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        number |= (bits & 0x1F) << shift
        shift += _CHARACTER_BITS
        if not bits & 0x20:
            number -= (bits & 0x10) << (shift - 4)  # the sign's weight is minus the next power of two
            lengths.append(number + lengths[-2] if len(lengths) > 2 else number)
            number = shift = 0
        elif shift > _LENGTH_BITS:
            raise ValueError("too many bits")
    return lengths
