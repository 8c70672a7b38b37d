"""Unlabelled images for pretraining: from a folder or a list, decoded once and kept in memory at a small size."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from episodes.lists import read_list
from util.distributed import rank
from util.errors import UserError
from util.images import IMAGE_SUFFIXES, read_image
from util.images.image_folders import list_images

MEMORY_LIMIT = 2 << 30  # bytes of decoded images; a folder that needs more is read again in every epoch


def find_images(source: Path, root: Path | None) -> list[Path]:
    """All images below a folder, sorted, hidden ones left out; or those of a list file whose paths start at ``root``.

    Raises ``UserError`` when there are none or a listed one is missing.
    """
    if source.is_file():
        if root is None:
            raise UserError(f"{source}: a list file needs --root, the folder where its paths start")
        images = read_list(source, root, need_labels=False)
        return [images.image_path(index) for index in range(len(images))]
    if not source.is_dir():
        raise UserError(f"{source}: no such folder or list file; give a folder of images")
    paths = list_images(source)
    if not paths:
        raise UserError(f"{source}: no image in it; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return paths


def open_images(paths: Sequence[Path], shorter_side: int) -> Sequence[np.ndarray]:
    """The images of ``paths`` as RGB uint8 (H, W, 3), reduced to ``shorter_side`` pixels where they are larger.

    They are decoded once and kept when they fit into ``MEMORY_LIMIT``, else read on every access. Raises ``UserError``
    for an unreadable image: at once when they are kept, else on access.
    """
    images = _ImagesOnDisk(paths, shorter_side)
    if len(paths) * images[0].nbytes > MEMORY_LIMIT:
        return images
    with ThreadPoolExecutor() as pool:
        decoded = pool.map(images.__getitem__, range(len(paths)))
        return list(tqdm(decoded, total=len(paths), desc="decode", unit="image", disable=rank() > 0))


class _ImagesOnDisk(Sequence[np.ndarray]):
    def __init__(self, paths: Sequence[Path], shorter_side: int) -> None:
        self.paths = paths
        self.shorter_side = shorter_side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        image = read_image(self.paths[index])
        scale = self.shorter_side / min(image.shape[:2])
        if scale >= 1:
            return image
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
