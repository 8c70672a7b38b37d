"""Images and masks as Python programs have them: files, arrays, or Pillow's images."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from util.errors import UserError
from util.images import read_image
from util.images.image_files import DECODER_ERRORS, header_of, turn
from util.images.mask_files import MaskReading, object_of, read_object

Given: TypeAlias = "Path | str | np.ndarray | Image.Image"

# Pillow's modes of 8 bits per channel and less, which become RGB as they look.
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


def given_image(image: Given, name: str) -> np.ndarray:
    """RGB uint8 (H, W, 3) of a file, of an array of that type and shape, or of an image of Pillow.

    Files and Pillow's images are turned as EXIF's orientation demands. Raises ``UserError``, which calls what is no
    file ``name``.
    """
    if isinstance(image, Path | str):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return _rgb(image, name)
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        raise UserError(f"{name}: {_described(image)}; expected a path, an image of Pillow, or RGB (H, W, 3) of uint8")
    if not image.size:
        raise UserError(f"{name}: an array without pixels, {image.shape}; expected (H, W, 3)")
    return np.require(image, requirements=["C", "W"])  # torch takes neither strides below zero nor what is read-only


def given_object(mask: Given, name: str, value: int | None = None) -> MaskReading:
    """A mask of one object, as ``read_object`` reads files, of a file, an array or an image of Pillow.

    Raises ``UserError``, which calls what is no file ``name``.
    """
    if isinstance(mask, Path | str):
        return read_object(Path(mask), value)
    if not isinstance(mask, np.ndarray | Image.Image):
        raise UserError(f"{name}: {_described(mask)}; expected a path, an image of Pillow, or an array (H, W)")
    return object_of(mask, name, value)


def _rgb(image: Image.Image, name: str) -> np.ndarray:
    if image.mode not in _MODES:
        raise UserError(f"{name}: an image of mode {image.mode}; convert it to RGB, or give its file")
    try:
        return turn(np.array(image.convert("RGB")), header_of(image).orientation)
    except DECODER_ERRORS as error:  # Pillow decodes a file when its pixels are needed
        raise UserError(f"{name}: not a readable image ({error}); replace it or leave it out") from None


def _described(given: object) -> str:
    if isinstance(given, np.ndarray):
        return f"an array of {given.dtype} {given.shape}"
    return f"a {type(given).__name__}"
