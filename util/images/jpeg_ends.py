"""JPEGs without an end marker: whether the marker alone is missing, or pixels with it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from util.errors import UserError
from util.images.image_files import open_image
from util.logging import logger

_START, _END, _SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA
# What may follow the last pixel without effect, and changes every pixel that is decoded from it.
_FILLER = bytes(165 + 7 * number % 83 for number in range(2048))


def with_end(data: bytes, name: Path | str) -> bytes:
    """``data`` itself, or with the end marker that a JPEG lacks whose pixels are all there, which is logged.

    Raises ``UserError`` for a JPEG that is cut short: decoders silently fill the missing part with grey.
    """
    if not data.startswith(_START) or data.find(_END, _scan_start(data)) >= 0:
        return data
    if not _is_complete(data):
        raise UserError(f"{name}: truncated JPEG (no end marker); copy the file again")
    logger.warning("%s: JPEG without end marker; its pixels are complete", name)
    return data + _END


def _scan_start(data: bytes) -> int:
    """Offset of a JPEG's pixels: the segments before it may hold a thumbnail with an end marker of its own."""
    position = 2
    while position + 1 < len(data) and data[position + 1] != _SCAN:
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        position += 1 if data[position + 1] == 0xFF else 2 + length
    return position


def _is_complete(data: bytes) -> bool:
    """Whether no pixel is decoded from what follows ``data``."""
    try:
        return np.array_equal(_decode(data + _END), _decode(data + _FILLER + _END))
    except UserError:
        return False


def _decode(data: bytes) -> np.ndarray:
    with open_image(io.BytesIO(data), "", noun="JPEG", formats=("JPEG",), advice="") as image:
        return np.array(image)
