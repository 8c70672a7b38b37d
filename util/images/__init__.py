"""Reading images and label maps, writing palette PNGs; errors name the file."""

from __future__ import annotations

import io
import zlib
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from util.errors import UserError
from util.files import atomic_write, write_bytes
from util.images.image_files import DECODER_ERRORS, Header, header_of, open_image, read_file, turn
from util.images.jpeg_ends import with_end

# OpenCV reads the pixels and Pillow the size, so a format counts if both installed builds support it.
_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".jp2", ".avif", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".ras"),
)
IMAGE_SUFFIXES = (
    *(suffix for suffix in _SUFFIXES if suffix in Image.registered_extensions() and cv2.haveImageWriter(suffix)),
    ".jfif",  # a JPEG
)

# Label of unannotated pixels; ignored by losses and metrics.
IGNORE = 255
# Label values between the background, 0, and IGNORE.
MAX_CLASSES = IGNORE - 1

# For RGB values in 0..1.
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)

_REDUCTIONS = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
_SPARE_PIXELS = 1.5  # a reduced image keeps this many times the useful side

# Pillow's names of the formats.
_IMAGE_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "TIFF", "WEBP", "JPEG2000", "AVIF", "GIF", "PPM", "SUN")
_LABEL_FORMATS = ("PNG", "TIFF", "BMP", "GIF")


def read_image(path: Path, useful_side: int | None = None) -> np.ndarray:
    """Read an image as RGB uint8 (H, W, 3); grey, CMYK, alpha and 16-bit files are converted.

    It is turned as EXIF's orientation demands. With ``useful_side`` a JPEG may be decoded at a half, a quarter or an
    eighth of its size, which is faster, as long as its longer side keeps 1.5 times ``useful_side`` pixels. Raises
    ``UserError`` for a missing, unreadable or truncated file and for one of more than ``PIXEL_LIMIT`` pixels.
    """
    return decode_image(read_file(path, "image"), path, useful_side)


def decode_image(data: bytes, name: Path | str, useful_side: int | None = None) -> np.ndarray:
    """``read_image`` for the bytes of a file; errors call it ``name``."""
    header = _read_header(data, name)
    mode = _decoding_mode(header, useful_side) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(with_end(data, name), dtype=np.uint8), mode)
    except DECODER_ERRORS:
        image = None
    if image is None:
        raise UserError(f"{name}: not a readable image; replace it or leave it out")
    return turn(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), header.orientation)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of ``read_image``'s result, from the file's header alone. Raises ``UserError``."""
    return _read_header(path, path).size


def complete_image_size(data: bytes, name: Path | str) -> tuple[int, int]:
    """``image_size`` for the bytes of a file, called ``name`` in errors; also raises for a truncated JPEG."""
    return _read_header(with_end(data, name), name).size


def _read_header(source: Path | bytes, name: Path | str) -> Header:
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    advice = "replace it or leave it out"
    with open_image(stream, name, noun="image", formats=_IMAGE_FORMATS, advice=advice) as image:
        return header_of(image)


def _decoding_mode(header: Header, useful_side: int | None) -> int:
    """The strongest of OpenCV's reductions that leaves enough pixels; only JPEGs are decoded faster by it."""
    if header.is_jpeg and useful_side is not None:
        for reduction, mode in _REDUCTIONS.items():
            if max(header.size) >= reduction * _SPARE_PIXELS * useful_side:
                return mode
    return cv2.IMREAD_COLOR


def read_label(path: Path) -> np.ndarray:
    """Read a label map as uint8 (H, W): the palette index or grey value of each pixel; 255 is ignored.

    Raises ``UserError`` for a missing, unreadable, truncated or colour file and for one of more than ``PIXEL_LIMIT``
    pixels. What people paint or export as a mask is read by ``util.images.mask_files``.
    """
    return decode_label(read_file(path, "label"), path)


def decode_label(data: bytes, name: Path | str) -> np.ndarray:
    """``read_label`` for the bytes of a file; errors call it ``name``."""
    advice = "copy or make it again"
    with open_image(io.BytesIO(data), name, noun="label", formats=_LABEL_FORMATS, advice=advice) as image:
        label = np.array(image)
    if label.ndim != 2 or label.dtype != np.uint8:
        raise UserError(
            f"{name}: a label must be an 8-bit palette or grey PNG, this one is {label.dtype} {label.shape}; "
            "`python -m prepare folder --colours` converts colours to such labels"
        )
    return label


def check_same_size(
    image: Path | str, image_size: tuple[int, ...], label: Path | str, label_size: tuple[int, ...]
) -> None:
    """Raise ``UserError`` unless a label has the (height, width) of its image, or of another mask of that image."""
    if tuple(image_size) != tuple(label_size):
        sizes = [f"{width}x{height}" for height, width in (label_size, image_size)]
        raise UserError(f"{label}: the label is {sizes[0]} pixels, but {image} is {sizes[1]}; make them equal")


def write_label(path: Path, label: np.ndarray) -> None:
    """Write ``label`` (H, W) uint8 as a palette PNG with the VOC colours, atomically."""
    image = Image.fromarray(label.astype(np.uint8, copy=False))
    image.putpalette(_voc_palette())
    with atomic_write(path) as temporary:
        # Labels are runs of one value: encoding only those takes a third of the time and a tenth more space.
        image.save(temporary, format="PNG", compress_type=zlib.Z_RLE)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an RGB uint8 (H, W, 3) image in the format of its suffix, atomically.

    Raises ``UserError`` for a side that the format cannot have; a JPEG's have at most 65,500 pixels.
    """
    _write_encoded(path, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def write_grey(path: Path, levels: np.ndarray) -> None:
    """Write uint8 or uint16 (H, W) as a grey PNG of as many bits, atomically."""
    _write_encoded(path, levels)


def _write_encoded(path: Path, pixels: np.ndarray) -> None:
    """Write what OpenCV encodes: cv2.imwrite would not report a full disk."""
    encoded, data = cv2.imencode(path.suffix, pixels)
    if not encoded:
        height, width = pixels.shape[:2]
        raise UserError(f"{path}: {width} x {height} pixels are too many for this format; make the image smaller")
    write_bytes(path, data.tobytes())


@cache
def _voc_palette() -> bytes:
    return voc_colours().tobytes()


def voc_colours() -> np.ndarray:
    """The PASCAL VOC colour map, uint8 (256, 3): each channel takes every third bit of the label."""
    labels = np.arange(256, dtype=np.uint8)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for shift in range(8):
        for channel in range(3):
            bit = (labels >> (3 * shift + channel)) & 1 if 3 * shift + channel < 8 else np.zeros_like(labels)
            colours[:, channel] |= bit << (7 - shift)
    return colours
