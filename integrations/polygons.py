"""Polygons of masks, for programs that take no masks."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np


def polygons_of(marked: np.ndarray) -> Iterator[np.ndarray]:
    """The outer outline of each connected piece of ``marked`` (H, W) bool: x and y of three points or more, (N, 2).

    Holes are not left out, and pieces without area are.
    """
    contours, _ = cv2.findContours(marked.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    yield from (contour[:, 0].astype(float) for contour in contours if len(contour) >= 3)
