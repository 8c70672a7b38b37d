"""The outlines of a mask as polygons, from which exactly its pixels can be drawn again."""

from __future__ import annotations

import cv2
import numpy as np

_FEWEST = 3  # points that annotation tools take for a polygon


def outline_polygons(objects: np.ndarray) -> list[np.ndarray]:
    """A polygon for each connected piece of ``objects`` (H, W) bool: x, y of pixels on its border, int (n, 2), n >= 3.

    Filled, with the pixels of the outline, the polygons are the objects. Pixels that share a corner are connected. The
    outline of a piece with holes runs along a row of the object to each hole, around it, and back.
    """
    contours, hierarchy = cv2.findContours(objects.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return []
    rings = [contour[:, 0] for contour in contours]
    owners = hierarchy[0, :, 3]
    polygons = {row: ring for row, ring in enumerate(rings) if owners[row] < 0}
    # From left to right: what lies left of a hole is the outside or a hole that belongs to the outline already.
    holes = sorted((row for row in range(len(rings)) if owners[row] >= 0), key=lambda row: int(rings[row][:, 0].min()))
    for row in holes:
        polygons[owners[row]] = _with_hole(polygons[owners[row]], rings[row], objects)
    return [_corners(polygon) for polygon in polygons.values()]


def _with_hole(polygon: np.ndarray, hole: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """The polygon that goes to the leftmost point of ``hole`` from the border on its left, around it and back."""
    start = int(hole[:, 0].argmin())
    x, y = hole[start]
    outside = np.flatnonzero(~objects[y, :x])
    border = int(outside[-1]) + 1 if outside.size else 0
    at = int(np.flatnonzero((polygon == (border, y)).all(axis=1))[0])
    return np.vstack([polygon[: at + 1], hole[start:], hole[: start + 1], polygon[at:]])


def _corners(ring: np.ndarray) -> np.ndarray:
    """The points where a ring turns, of which every step is along one of eight directions; repeated if too few."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = (np.sign(before) != np.sign(after)).any(axis=1)
    corners = ring[turns] if turns.any() else ring[:1]
    return np.vstack([corners, *[corners[-1:]] * max(0, _FEWEST - len(corners))])
