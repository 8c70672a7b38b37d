"""Pictures for the list of photographs: reduced, with what is marked outlined."""

from __future__ import annotations

import cv2
import numpy as np

# Of Okabe and Ito, which people with any colour vision tell apart.
_COLOURS = np.array(
    [(86, 180, 233), (204, 121, 167), (240, 228, 66), (0, 158, 115), (213, 94, 0), (0, 114, 178), (230, 159, 0)],
    dtype=np.uint8,
)
_DIMMED = 0.55  # brightness of what is not marked
_DARK = 20  # around the outlines


def page_colours(classes: int) -> np.ndarray:
    """The colours of classes 1, 2, ... on the page: RGB uint8 (classes, 3)."""
    return _COLOURS[np.arange(classes) % len(_COLOURS)]


def thumbnail(image: np.ndarray, mask: np.ndarray, side: int) -> bytes:
    """A JPEG whose longer side is ``side`` or less, of an image, RGB uint8 (H, W, 3), with its mask, uint8 (h, w).

    The mask may have another size; 0 is background, from 1 on the number of a class.
    """
    image = reduced(image, side)
    mask = cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    marked = mask > 0
    if marked.any():
        around = np.ones((5, 5), dtype=np.uint8)
        edges = cv2.dilate(mask, around) != cv2.erode(mask, around)
        image = np.where(marked[..., None], image, cv2.convertScaleAbs(image, alpha=_DIMMED))
        image[edges & ~marked] = _DARK
        image[edges & marked] = page_colours(int(mask.max()))[mask[edges & marked].astype(int) - 1]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def reduced(image: np.ndarray, side: int) -> np.ndarray:
    """``image`` (H, W, 3), smaller where its longer side is longer than ``side``."""
    height, width = image.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))  # OpenCV's order
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
