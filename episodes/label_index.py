"""How many pixels each label value covers in each image of a list, counted once and cached."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from episodes.closed_labels import check_open
from episodes.lists import ImageList
from util.array_files import read_arrays, write_tensors
from util.errors import UserError
from util.files import cache_folder, digest_lines
from util.images import check_same_size, image_size, read_label
from util.launch import speaks_for_all
from util.processes import available_cores

# Images that a thread counts at a time: one task per image would take a gigabyte for a million images.
_BLOCK = 64
_KINDS = {"image": ("int32", 1), "label": ("uint8", 1), "area": ("int32", 1)}


@dataclass(frozen=True)
class LabelAreas:
    """An entry for each label value that occurs in an image, sorted by image, then by value.

    ``image`` int32, the row in the list; ``label`` uint8; ``area`` int32, pixels; all (entries,).
    """

    image: np.ndarray
    label: np.ndarray
    area: np.ndarray

    def images_with(self, label: int, min_area: int = 1) -> np.ndarray:
        """Rows of the images in which ``label`` covers at least ``min_area`` pixels, int32, ascending."""
        rows: np.ndarray = self.image[(self.label == label) & (self.area >= min_area)]
        return rows

    def digest(self) -> str:
        """SHA-256 (hex) of all entries."""
        return hashlib.sha256(b"".join(array.tobytes() for array in vars(self).values())).hexdigest()


def label_areas(images: ImageList) -> LabelAreas:
    """Pixels of each label value in each image.

    Cached under a digest of the label files' paths, sizes and modification times. Raises ``UserError`` for a missing or
    unreadable label and for one whose size is not that of its image.
    """
    cache = cache_folder() / f"label-areas-{_digest(images)}.safetensors"
    if cache.is_file():
        return LabelAreas(**read_arrays(cache, _KINDS, remedy="delete it; it will be made again"))
    areas = _count_all(images)
    write_tensors(cache, vars(areas))
    return areas


def _digest(images: ImageList) -> str:
    root = images.root.absolute()
    lines = []
    for label in images.label_names():
        path = os.path.join(root, label)
        check_open(path)
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # ValueError: a name with a zero in it
            raise UserError(f"{path}: label not found; correct {images.list_file} or DATA.data_root") from None
        lines.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    return digest_lines(lines)


def _count_all(images: ImageList) -> LabelAreas:
    rows = range(len(images))
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(images), _BLOCK)]
    counts = []
    with (
        ThreadPoolExecutor(available_cores()) as pool,
        tqdm(total=len(images), desc="label areas", unit="image", disable=not speaks_for_all()) as progress,
    ):
        for block, entries in zip(blocks, pool.map(lambda block: _count_block(images, block), blocks), strict=True):
            counts.append(entries)
            progress.update(len(block))
    image, label, area = np.concatenate(counts, axis=1)
    return LabelAreas(image.astype(np.int32), label.astype(np.uint8), area.astype(np.int32))


def _count_block(images: ImageList, rows: range) -> np.ndarray:
    """The entries of these images: image, label and area, int64 (3, entries)."""
    areas = np.stack([_count(images, row) for row in rows])
    row, label = np.nonzero(areas)
    return np.stack([row + rows.start, label, areas[row, label]])


def _count(images: ImageList, row: int) -> np.ndarray:
    """Pixels of each of the 256 label values, int64 (256,)."""
    image_path, label_path = images.image_path(row), images.label_path(row)
    label = read_label(label_path)
    check_same_size(image_path, image_size(image_path), label_path, label.shape)
    return np.bincount(label.ravel(), minlength=256)
