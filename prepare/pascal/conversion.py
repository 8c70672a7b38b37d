"""Converts images and labels from the downloads of PASCAL VOC and SBD to the project's layout."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from episodes.folds import ALL_FOLDS, fold_classes
from prepare.links import is_made
from prepare.pascal.archives import Entry
from prepare.pascal.sbd import decode_sbd_label
from prepare.pascal.voc_lists import image_name, label_name
from prepare.workers import process_map
from util.errors import UserError, first_of
from util.files import link_or_copy, write_bytes
from util.images import (
    IGNORE,
    check_same_size,
    complete_image_size,
    decode_image,
    decode_label,
    image_size,
    write_image,
    write_label,
)

_CLASSES = len(fold_classes("pascal", ALL_FOLDS)[0])


class DownloadedImage(NamedTuple):
    """An image and its label in the downloads."""

    image_id: str
    image: Entry
    label: Entry


def make_files(images: Sequence[DownloadedImage], root: Path, *, longer_side: int | None, workers: int) -> None:
    """Write ``JPEGImages`` and ``SegmentationClassAug`` below ``root``, shrunk to ``longer_side`` pixels if given.

    Raises ``UserError`` that names the first bad file, after all the others have been made.
    """
    make = partial(_make, root, longer_side)
    reports = tqdm(process_map(make, images, workers), total=len(images), desc=root.name, unit="image")
    problems = [problem for problem in reports if problem is not None]
    if problems:
        raise first_of(problems)


def _make(root: Path, longer_side: int | None, downloaded: DownloadedImage) -> str | None:
    """What is wrong with the files, None if they were made; the label is written last."""
    try:
        data = downloaded.image.read()
        size = complete_image_size(data, downloaded.image.place)
        label = _read_label(downloaded.label)
        check_same_size(downloaded.image.place, size, downloaded.label.place, label.shape)
        new_size = _shrunk(size, longer_side)
        _make_image(downloaded.image, data, root / image_name(downloaded.image_id), size=size, new_size=new_size)
        if new_size != size:
            # By the centres of pixels, as cv2.INTER_AREA shrinks the image.
            label = cv2.resize(label, new_size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        write_label(root / label_name(downloaded.image_id), label)
    except UserError as error:
        return str(error)
    return None


def _read_label(entry: Entry) -> np.ndarray:
    """uint8 (H, W): 0 background, 1 to 20, 255 void."""
    decode = decode_sbd_label if entry.place.endswith(".mat") else decode_label
    label = decode(entry.read(), entry.place)
    unknown = label[(label > _CLASSES) & (label != IGNORE)]
    if unknown.size:
        raise UserError(f"{entry.place}: has the label {unknown[0]}; expected 0 to {_CLASSES}, and {IGNORE} for void")
    return label


def _shrunk(size: tuple[int, int], longer_side: int | None) -> tuple[int, int]:
    """(height, width) scaled so that the longer one is at most ``longer_side``."""
    if longer_side is None or max(size) <= longer_side:
        return size
    height, width = (max(1, round(side * longer_side / max(size))) for side in size)
    return height, width


def _make_image(entry: Entry, data: bytes, target: Path, *, size: tuple[int, int], new_size: tuple[int, int]) -> None:
    """Shrink the image to ``new_size``, or link to it or copy it out of an archive if that is its size.

    An existing image is kept. Raises ``UserError`` if it has another size.
    """
    if is_made(target):
        if image_size(target) != new_size:
            raise UserError(f"{target}: not {new_size[1]}x{new_size[0]} pixels; remove it or choose another --root")
    elif new_size != size:
        image = decode_image(data, entry.place)
        # OpenCV writes JPEGs with quality 95 by default.
        write_image(target, cv2.resize(image, new_size[::-1], interpolation=cv2.INTER_AREA))
    elif isinstance(entry.source, Path):
        link_or_copy(entry.source, target)
    else:
        write_bytes(target, data)
