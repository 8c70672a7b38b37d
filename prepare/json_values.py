"""Values in the JSONs of annotation tools, checked: each tool and script writes numbers and names in its own way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from util.errors import UserError
from util.images.image_files import PIXEL_LIMIT

# pycocotools and Pillow follow an outline pixel by pixel, in 32-bit numbers: its largest coordinate, and its length.
_FARTHEST = 1e6
_LONGEST = 1e7
_KINDS = {int: "a whole number", str: "a string", list: "a list"}

_Kind = TypeVar("_Kind")


def checked_value(entry: Mapping[str, Any], key: str, kind: type[_Kind], place: str, advice: str) -> _Kind:
    """The value of ``key`` in a JSON object; whole numbers may be written like 48.0.

    Raises ``UserError``, which begins with ``place`` and ends with ``advice``, for another kind.
    """
    value = entry.get(key)
    if kind is int:
        value = whole(value)
    if not isinstance(value, kind):
        raise UserError(f"{place}: '{key}' is missing or not {_KINDS[kind]}; {advice}")
    return value


def checked_name(entry: Mapping[str, Any], key: str, place: str, advice: str) -> str:
    """The value of ``key`` in a JSON object, a string or a whole number, as a string; raises like ``checked_value``."""
    number = whole(entry.get(key))
    return checked_value(entry, key, str, place, advice) if number is None else str(number)


def checked_size(entry: Mapping[str, Any], height: str, width: str, place: str, advice: str) -> tuple[int, int]:
    """The values of the keys ``height`` and ``width`` of a JSON object; raises like ``checked_value``.

    Both are positive, and there are at most ``PIXEL_LIMIT`` pixels.
    """
    sides = checked_value(entry, height, int, place, advice), checked_value(entry, width, int, place, advice)
    if min(sides) < 1 or sides[0] * sides[1] > PIXEL_LIMIT:
        raise UserError(f"{place}: no image has '{height}' {sides[0]} and '{width}' {sides[1]}; {advice}")
    return sides


def check_outline(points: np.ndarray, place: str, advice: str) -> None:
    """Raise ``UserError`` for x, y, x, y, ... (2n,) float64 that are no numbers, too far away, or too long a way."""
    extent = np.abs(points).max(initial=0)
    if not extent <= _FARTHEST:
        raise UserError(f"{place}: a point is too far outside the image; {advice}")
    # Few points cannot be far apart, so that hardly any outline needs to be measured.
    if points.size * (extent + 1) > _LONGEST and _length(points) > _LONGEST:
        raise UserError(f"{place}: an outline is longer than {_LONGEST:,.0f} pixels; {advice}")


def _length(points: np.ndarray) -> float:
    """Pixels along an outline, at least one for each of its points."""
    corners = points.reshape(-1, 2)
    return float(np.maximum(1, np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1)).sum())


def whole(value: Any) -> int | None:
    """The whole number of at most 64 bits that a JSON value is, None if it is none; 48.0 is one, ``true`` is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 or abs(value) >= 1 << 63:
        return None
    return int(value)
