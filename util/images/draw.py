"""Pictures of masks: overlays and labelled contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from util.images import voc_colours


def overlay(image: np.ndarray, mask: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Paint a mask over an image.

    ``image`` (H, W, 3) RGB uint8; ``mask`` (H, W) integer: 0 leaves the image as it is, 255 is painted white, any
    other id in its VOC colour. Returns RGB uint8 (H, W, 3).
    """
    colours = voc_colours()
    colours[255] = 255
    painted, where = image.copy(), mask > 0
    painted[where] = (image[where] * (1 - opacity) + colours[mask[where]] * opacity).astype(np.uint8)
    return painted


def contact_sheet(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], cell: int = 160) -> np.ndarray:
    """Arrange RGB images (each (H, W, 3) uint8, any size) in a table with a title over each column.

    Every row must have ``len(titles)`` images; each is fitted into a square of ``cell`` pixels on white.
    """
    bar = 22
    sheet = np.full((bar + cell * len(rows), cell * len(titles), 3), 255, dtype=np.uint8)
    for column, title in enumerate(titles):
        cv2.putText(sheet, title, (column * cell + 4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            fitted = _fit(image, cell - 4)
            top, left = bar + row * cell + 2, column * cell + 2
            sheet[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return sheet


def _fit(image: np.ndarray, size: int) -> np.ndarray:
    """Scale ``image`` so that its longer side is ``size``."""
    scale = size / max(image.shape[:2])
    width, height = (max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
