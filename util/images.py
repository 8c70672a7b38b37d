"""Finding and reading images and label maps, writing palette PNGs; errors name the file."""

from __future__ import annotations

import io
import zlib
from collections.abc import Collection
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image

from util.errors import UserError
from util.files import atomic_write, write_bytes

# OpenCV reads the pixels and Pillow the size, so a format counts if both installed builds support it.
_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".jp2", ".avif", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".ras"),
)
IMAGE_SUFFIXES = tuple(
    suffix for suffix in _SUFFIXES if suffix in Image.registered_extensions() and cv2.haveImageWriter(suffix)
)

# Label of unannotated pixels; ignored by losses and metrics.
IGNORE = 255
# Label values between the background, 0, and IGNORE.
MAX_CLASSES = IGNORE - 1

# For RGB values in 0..1.
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)

# Images come from the user, so a large one is no attack.
Image.MAX_IMAGE_PIXELS = None

_JPEG = b"\xff\xd8"  # the first bytes of a file
_REDUCTIONS = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
_SPARE_PIXELS = 1.5  # a reduced image keeps this many times the useful side

# What Pillow raises for damaged files; its own UnidentifiedImageError is an OSError.
_UNREADABLE = (OSError, SyntaxError, ValueError)

# EXIF orientations 5 to 8 swap height and width.
_FIRST_TURNED_ORIENTATION = 5


def find_files(folder: Path, suffixes: Collection[str], *, recursive: bool = True) -> list[Path]:
    """The files in ``folder``, and in its subfolders if ``recursive``, that have one of the ``suffixes``, sorted.

    ``suffixes`` are in lower case, like ``IMAGE_SUFFIXES``; those of the files may be in any case. Hidden files and
    folders are left out: some systems keep previews under names like ``._photo.jpg``.
    """
    paths = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def read_image(path: Path, useful_side: int | None = None) -> np.ndarray:
    """Read an image as RGB uint8 (H, W, 3); grey, CMYK, alpha and 16-bit files are converted.

    With ``useful_side`` a JPEG may be decoded at a half, a quarter or an eighth of its size, which is faster, as long
    as its longer side keeps 1.5 times ``useful_side`` pixels. Raises ``UserError`` for a missing, unreadable or
    truncated file.
    """
    if not path.is_file():
        raise UserError(f"{path}: image not found")
    return decode_image(path.read_bytes(), path, useful_side)


def decode_image(data: bytes, name: Path | str, useful_side: int | None = None) -> np.ndarray:
    """``read_image`` for the bytes of a file; errors call it ``name``."""
    _check_complete(data, name)
    mode = cv2.IMREAD_COLOR if useful_side is None else _decoding_mode(data, name, useful_side)
    image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), mode) if data else None
    if image is None:
        raise UserError(f"{name}: not a readable image; replace it or leave it out")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decoding_mode(data: bytes, name: Path | str, useful_side: int) -> int:
    """The strongest of OpenCV's reductions that leaves enough pixels; only JPEGs are decoded faster by it."""
    if data.startswith(_JPEG):
        longer_side = max(_header_size(io.BytesIO(data), name))
        for reduction, mode in _REDUCTIONS.items():
            if longer_side >= reduction * _SPARE_PIXELS * useful_side:
                return mode
    return cv2.IMREAD_COLOR


def _check_complete(data: bytes, name: Path | str) -> None:
    """Refuse a JPEG without an end marker: decoders silently fill the missing part with grey."""
    if data.startswith(_JPEG) and data.find(b"\xff\xd9", _scan_start(data)) < 0:
        raise UserError(f"{name}: truncated JPEG (no end marker); copy the file again")


def _scan_start(data: bytes) -> int:
    """Offset of a JPEG's pixels: the segments before it may hold a thumbnail with an end marker of its own."""
    position = 2
    while data[position + 1 : position + 2] not in (b"\xda", b""):
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        position += 1 if data[position + 1] == 0xFF else 2 + length
    return position


def read_label(path: Path) -> np.ndarray:
    """Read a label map as uint8 (H, W): the palette index or grey value of each pixel; 255 is ignored.

    Raises ``UserError`` for a missing, unreadable, truncated or colour file.
    """
    if not path.is_file():
        raise UserError(f"{path}: label not found")
    return _read_label(path, path)


def decode_label(data: bytes, name: Path | str) -> np.ndarray:
    """``read_label`` for the bytes of a file; errors call it ``name``."""
    return _read_label(io.BytesIO(data), name)


def _read_label(source: Path | io.BytesIO, name: Path | str) -> np.ndarray:
    try:
        with Image.open(source) as image:
            label = np.array(image)
    except _UNREADABLE as error:
        raise UserError(f"{name}: not a readable label ({error}); copy or make it again") from None
    if label.ndim != 2 or label.dtype != np.uint8:
        raise UserError(
            f"{name}: a label must be an 8-bit palette or grey PNG, this one is {label.dtype} {label.shape}; "
            "`python -m prepare folder --colours` converts colours to such labels"
        )
    return label


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of ``read_image``'s result, from the file's header alone. Raises ``UserError``."""
    return _header_size(path, path)


def complete_image_size(data: bytes, name: Path | str) -> tuple[int, int]:
    """``image_size`` for the bytes of a file, called ``name`` in errors; also raises for a truncated JPEG."""
    _check_complete(data, name)
    return _header_size(io.BytesIO(data), name)


def _header_size(source: Path | io.BytesIO, name: Path | str) -> tuple[int, int]:
    try:
        with Image.open(source) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= _FIRST_TURNED_ORIENTATION
            return (image.width, image.height) if turned else (image.height, image.width)
    except _UNREADABLE as error:
        raise UserError(f"{name}: not a readable image ({error})") from None


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
    """Write an RGB uint8 (H, W, 3) image in the format of its suffix, atomically."""
    # cv2.imwrite would not report a full disk.
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
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
