"""Supports: annotated images and what their masks mark, read before torch is imported."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from util.images import check_same_size
from util.images.given import Given, given_image, given_object
from util.images.mask_files import doubt_about
from util.logging import logger


class Support(NamedTuple):
    """An annotated image: RGB uint8 (H, W, 3), and its mask, uint8 (H, W): 1 object, 0 background, 255 not counted.

    ``name`` is what messages call the mask.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray

    def described(self) -> list[str]:
        """The mask's file and what it marks, a line each."""
        marked = self.mask == 1
        pieces = cv2.connectedComponents(marked.astype(np.uint8), connectivity=8)[0] - 1
        counted = f"{pieces} piece" if pieces == 1 else f"{pieces:,} pieces"
        return [Path(self.name).name, f"marks {100 * marked.mean():.0f} % of the photograph, {counted}"]


def read_support(image: Given, mask: Given, value: int | None = None, *, name: str = "support") -> Support:
    """Read an annotated image and say how its mask was understood; ``value`` is the object's in a mask of several.

    Raises ``UserError``, also for a mask without object; it calls what is no file ``name``.
    """
    image_name, mask_name = (
        str(given) if isinstance(given, str | Path) else f"{part} of {name}"
        for given, part in ((image, "image"), (mask, "mask"))
    )
    pixels, reading = given_image(image, image_name), given_object(mask, mask_name, value)
    check_same_size(image_name, pixels.shape[:2], mask_name, reading.ids.shape)
    logger.info("%s: %s", mask_name, reading.understood)
    doubt = doubt_about(reading.ids)
    if doubt is not None:
        logger.warning("WARNING: %s: %s", mask_name, doubt)
    return Support(mask_name, pixels, reading.ids)
