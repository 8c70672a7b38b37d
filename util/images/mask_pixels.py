"""Mask files as values and transparency, whatever their mode; ``util.images.mask_files`` says what they mean."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from util.errors import UserError
from util.images.image_files import header_of, open_image, read_file, turn
from util.images.jpeg_ends import with_end

_FORMATS = ("PNG", "TIFF", "BMP", "GIF", "JPEG")
_COLOUR_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}


class MaskPixels(NamedTuple):
    """The pixels of a mask.

    ``values``: (H, W) of any type, or (H, W, 3) uint8 RGB; ``alpha``: (H, W) uint8, or None where all is opaque;
    ``notes``: what was special about the file; ``is_lossy``: it was a JPEG, so that no value is exact.
    """

    values: np.ndarray
    alpha: np.ndarray | None
    notes: tuple[str, ...] = ()
    is_lossy: bool = False


def decode_mask(data: bytes, name: Path | str) -> MaskPixels:
    """The pixels of a file's bytes, turned as EXIF demands; raises ``UserError``, which calls it ``name``."""
    with _open(data, name) as image:
        return pixels_of(image)


def pixels_of(image: Image.Image) -> MaskPixels:
    """The pixels of an image of Pillow, turned as EXIF's orientation demands; raises what its decoder raises."""
    header = header_of(image)
    pixels = split_channels(turn(_as_array(image), header.orientation))
    notes = (("a JPEG",) if header.is_jpeg else ()) + (("turned as EXIF says",) if header.orientation > 1 else ())
    return pixels._replace(notes=notes, is_lossy=header.is_jpeg)


def decode_colours(path: Path) -> MaskPixels:
    """``decode_mask`` with values that are always RGB; raises ``UserError`` for more than 8 bits per channel."""
    with _open(read_file(path, "mask"), path) as image:
        if image.mode not in _COLOUR_MODES:
            raise UserError(f"{path}: a mask in colours must have 8 bits per channel, this one is {image.mode}")
        return split_channels(turn(np.array(image.convert("RGBA")), header_of(image).orientation))


def split_channels(pixels: np.ndarray) -> MaskPixels:
    """``pixels`` are (H, W), or (H, W, 1 to 4): grey, grey and alpha, RGB, RGBA."""
    if pixels.ndim == 2:
        return MaskPixels(pixels, None)
    alpha = pixels[..., -1] if pixels.shape[2] in (2, 4) else None
    values = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0]
    return MaskPixels(values, None if alpha is None or (alpha == 255).all() else alpha)


def _open(data: bytes, name: Path | str) -> AbstractContextManager[Image.Image]:
    stream = io.BytesIO(with_end(data, name))
    return open_image(stream, name, noun="mask", formats=_FORMATS, advice=f"expected {', '.join(_FORMATS)}")


def _as_array(image: Image.Image) -> np.ndarray:
    """Palette indices and grey values as they are; RGB or RGBA for colours and where some values are transparent."""
    transparent = image.info.get("transparency")
    if image.mode == "P" and transparent is not None:
        # Where only index 0 is transparent, the indices still say everything.
        others = transparent[1:].strip(b"\xff") if isinstance(transparent, bytes) else transparent
        return np.array(image.convert("RGBA") if others else image)
    if image.mode == "PA" or (image.mode in ("L", "RGB") and transparent is not None):
        return np.array(image.convert("RGBA"))
    return np.array(image.convert("RGB") if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else image)
