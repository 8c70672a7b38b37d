"""Opening image files safely: known formats only, a bound on pixels before decoding, one kind of error."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from util.errors import UserError

# Pixels of the largest image, mask or label: 16,384 x 16,384, of which an RGB copy takes 0.8 GB.
PIXEL_LIMIT = 1 << 28
# Images come from the user, so a large one is no attack; PIXEL_LIMIT holds instead.
Image.MAX_IMAGE_PIXELS = None
Image.init()  # fills Image.OPEN
# What Pillow finds odd is either read or refused here.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# What decoders raise for damaged files.
DECODER_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, OverflowError, MemoryError, RuntimeError),
    *(struct.error, zlib.error, cv2.error),
)
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257  # tags


class Header(NamedTuple):
    """What a file says about its image: ``size`` (height, width) after turning it, and whether it is a JPEG.

    ``orientation`` is EXIF's, 1 to 8, of the pixels as they are decoded.
    """

    size: tuple[int, int]
    orientation: int
    is_jpeg: bool


def read_file(path: Path, noun: str) -> bytes:
    """The bytes of a file; ``UserError`` that calls it ``noun`` if it is missing, a folder, a pipe or a device."""
    if not path.is_file():
        problem = f"not a file; give {noun}s as files" if path.exists() else f"{noun} not found"
        raise UserError(f"{path}: {problem}")
    return path.read_bytes()


@contextmanager
def open_image(
    source: Path | io.BytesIO, name: Path | str, *, noun: str, formats: Sequence[str], advice: str
) -> Iterator[Image.Image]:
    """Open an image of one of Pillow's ``formats``, whose pixels the block may decode.

    Raises ``UserError`` for more than ``PIXEL_LIMIT`` pixels, and for whatever the decoder raises in the block: it
    calls the file ``name`` and a ``noun`` and ends with ``advice``.
    """
    try:
        with Image.open(source, formats=[known for known in formats if known in Image.OPEN]) as image:
            _check_pixels(image.size, name, noun)
            yield image
    except UnidentifiedImageError:
        raise UserError(f"{name}: not a readable {noun}; {advice}") from None
    except DECODER_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name}: not a readable {noun} ({reason}); {advice}") from None


def header_of(image: Image.Image) -> Header:
    """The header of an opened image."""
    if image.format == "TIFF":  # decoders turn it themselves
        width, height = (int(image.tag_v2[tag]) for tag in (_TIFF_WIDTH, _TIFF_HEIGHT))  # type: ignore[attr-defined]
        return Header(_turned_size(height, width, _orientation(image.getexif())), 1, is_jpeg=False)
    orientation = _orientation(_exif(image))
    size = _turned_size(image.height, image.width, orientation)
    return Header(size, orientation, is_jpeg=image.format in ("JPEG", "MPO"))


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror pixels (H, W, ...) as their EXIF ``orientation`` demands."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _exif(image: Image.Image) -> Image.Exif:
    """The EXIF block alone: ``Image.getexif`` also believes XMP, which nothing else turns an image by."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
    except (*DECODER_ERRORS, AssertionError):  # the block is not EXIF: text, for example
        return Image.Exif()
    return exif


def _orientation(exif: Image.Exif) -> int:
    try:
        value = exif.get(ExifTags.Base.Orientation, 1)
    except DECODER_ERRORS:
        return 1
    if isinstance(value, bytes):  # of the tag's type BYTE
        value = int.from_bytes(value[:1], "little")
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turned_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    return (width, height) if orientation >= 5 else (height, width)


def _check_pixels(size: tuple[int, int], name: Path | str, noun: str) -> None:
    width, height = size
    if width * height > PIXEL_LIMIT:
        raise UserError(
            f"{name}: {width} x {height} pixels, at most {PIXEL_LIMIT:,} are read; make the {noun} smaller or cut it"
        )
