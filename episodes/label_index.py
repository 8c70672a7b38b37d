"""How many pixels each label value covers in each image of a list, counted once and cached."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from episodes.episode import check_same_size
from episodes.lists import ImageList
from util.errors import UserError
from util.files import cache_folder, digest_lines, read_json, write_text
from util.images import image_size, read_image, read_label

_LABELS = 256


def label_areas(images: ImageList) -> np.ndarray:
    """Pixels of each label value in each image: int32 (len(images), 256).

    Cached under a digest of the label files' paths, sizes and times. Raises ``UserError`` for a missing or
    unreadable label and for one of another size than its image.
    """
    cache = cache_folder() / f"label-areas-{_digest(images)}.json"
    if cache.is_file():
        return _unpack(read_json(cache), len(images))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = pool.map(lambda index: _count(images, index), range(len(images)))
        areas = np.stack(list(tqdm(counts, total=len(images), desc="label areas", unit="image")))
    write_text(cache, json.dumps(_pack(areas)))
    return areas


def _digest(images: ImageList) -> str:
    lines = []
    for index in range(len(images)):
        path = images.label_path(index)
        try:
            status = path.stat()
        except FileNotFoundError:
            raise UserError(f"{path}: label not found; correct {images.list_file} or DATA.data_root") from None
        lines.append(f"{path.absolute()} {status.st_size} {status.st_mtime_ns}")
    return digest_lines(lines)


def _count(images: ImageList, index: int) -> np.ndarray:
    image_path, label_path = images.image_path(index), images.label_path(index)
    label = read_label(label_path)
    if label.shape != image_size(image_path):
        # The header does not know of an EXIF rotation, the decoded image does.
        check_same_size(image_path, read_image(image_path).shape[:2], label_path, label.shape)
    return np.bincount(label.ravel(), minlength=_LABELS).astype(np.int32)


def _pack(areas: np.ndarray) -> dict[str, list[int]]:
    """Most of the table is zero: keep (image, label, area) of the rest."""
    image, label = np.nonzero(areas)
    return {"image": image.tolist(), "label": label.tolist(), "area": areas[image, label].tolist()}


def _unpack(packed: dict[str, list[int]], count: int) -> np.ndarray:
    areas = np.zeros((count, _LABELS), dtype=np.int32)
    areas[packed["image"], packed["label"]] = packed["area"]
    return areas
