"""Pictures for the list of photographs: reduced, with what is marked outlined."""

from __future__ import annotations

import cv2
import numpy as np

from util.images.draw import outlined, reduced


def thumbnail(image: np.ndarray, mask: np.ndarray, side: int) -> bytes:
    """A JPEG whose longer side is ``side`` or less, of an image, RGB uint8 (H, W, 3), with its mask, uint8 (h, w).

    The mask may have another size; 0 is background, from 1 on the number of a class.
    """
    image = reduced(image, side)
    mask = cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(outlined(image, mask), cv2.COLOR_RGB2BGR))
    return data.tobytes()
