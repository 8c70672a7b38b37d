"""Views of objects with their frozen features, on the disk: rows of one size in one file.

A row ends with a checksum of the rest, so one that a killed process left half is no row. Several processes may read and
write at a time: those that write a row write the same bytes. The file is sparse: it takes the space of the rows that
are written.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import UserError
from util.files import digest_lines, make_folder, name_errors, write_json

_ROWS = "rows.bin"
_MANIFEST = "manifest.json"
_DIGITS = 16  # of a SHA-256, enough to tell settings apart
_BLOCK = 512  # bytes, the unit in which systems count what a file takes
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class ViewShape:
    """Sizes of a view (H, W), and of the maps (h, w) of its features with their channels."""

    image: tuple[int, int]
    maps: tuple[int, int]
    mid_channels: int
    high_channels: int

    @property
    def dtype(self) -> np.dtype[np.void]:
        """Of a row: features (h, w, channels), mask of 0, 1 and 255, padding."""
        return np.dtype(
            [
                ("mid", "<f2", (*self.maps, self.mid_channels)),
                ("high", "<f2", (*self.maps, self.high_channels)),
                ("mask", "u1", self.image),
                ("padding", "?", self.image),
            ]
        )

    def row(self, mid: np.ndarray, high: np.ndarray, mask: np.ndarray, padding: np.ndarray) -> np.void:
        """A row of features (channels, h, w), mask (H, W) and padding (H, W).

        Raises ``UserError`` for features beyond the range of half precision.
        """
        row: np.void = np.zeros(1, self.dtype)[0]
        for name, features in (("mid", mid), ("high", high)):
            if not np.abs(features).max() <= _LARGEST:
                raise UserError(
                    f"TRAIN.views: the backbone's features exceed {_LARGEST:g}, the range of the half precision in "
                    "which they are kept; set TRAIN.views=0"
                )
            row[name] = features.transpose(1, 2, 0)
        row["mask"], row["padding"] = mask, padding
        return row


@dataclass(frozen=True)
class ViewStore:
    """Rows in ``folder``, most of which may not be written; ``settings`` are all that their bytes depend on.

    It holds no file open: workers of a loader may have it, and the folder may be deleted at any time.
    """

    folder: Path
    shape: ViewShape
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, parent: Path, shape: ViewShape, settings: Mapping[str, Any]) -> ViewStore:
        """The one in ``parent`` for rows that depend on these ``settings``, JSON values, alone."""
        settings = {**settings, "row": str(shape.dtype)}
        return cls(parent / digest_lines([json.dumps(settings, sort_keys=True)])[:_DIGITS], shape, settings)

    @property
    def row_bytes(self) -> int:
        """What a row takes on the disk."""
        return self._place.itemsize

    def make(self) -> None:
        """Make the folder, with the settings in ``manifest.json``, for people to read."""
        write_json(self.folder / _MANIFEST, self.settings)

    def read(self, number: int) -> np.void | None:
        """A row, mapped into memory; None where it is not written, or damaged."""
        try:
            place = np.memmap(self._path, self._place, mode="r", offset=number * self.row_bytes, shape=(1,))[0]
        except (FileNotFoundError, ValueError):  # ValueError: beyond the end of the file
            return None
        row: np.void = place["row"]
        return row if place["checksum"] == _checksum(row) else None

    def write(self, number: int, row: np.void) -> None:
        """Write a row. Raises ``OSError`` that names the file."""
        place = np.zeros(1, self._place)
        place["row"], place["checksum"] = row, _checksum(row)
        make_folder(self.folder)
        self._path.touch()
        # Written, not memory-mapped: on a full disk a write raises an error, whereas a mapping kills the process.
        with name_errors(self._path), self._path.open("r+b") as stream:
            stream.seek(number * self.row_bytes)
            stream.write(place.tobytes())

    @property
    def _path(self) -> Path:
        return self.folder / _ROWS

    @property
    def _place(self) -> np.dtype[np.void]:
        return np.dtype([("row", self.shape.dtype), ("checksum", "<u4")])


def stored_bytes(parent: Path, folder: str = "*") -> int:
    """Bytes that the stores in ``parent``, or the one in a ``folder`` there, take on the disk."""
    return sum(os.stat(path).st_blocks * _BLOCK for path in parent.glob(f"{folder}/{_ROWS}"))


def _checksum(row: np.void) -> int:
    return zlib.crc32(row.tobytes())
