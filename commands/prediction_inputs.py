"""What ``predict.py`` is given: annotated images and queries, read before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from util.errors import UserError
from util.images import check_same_size, read_image
from util.images.image_folders import list_images
from util.images.mask_files import doubt_about, read_object
from util.logging import logger


class Support(NamedTuple):
    """An annotated image: RGB uint8 (H, W, 3), and its mask, uint8 (H, W): 1 object, 0 background, 255 not counted."""

    path: Path
    image: np.ndarray
    mask: np.ndarray


def find_queries(paths: Sequence[Path], leave_out: Collection[Path] = ()) -> list[Path]:
    """The images among ``paths`` and directly in the folders among them, each once; in folders, ``leave_out`` is not.

    Raises ``UserError`` for a folder without images.
    """
    queries: dict[str, Path] = {}
    for path in paths:
        files = [path]
        if path.is_dir():
            files = [file for file in list_images(path, recursive=False) if file.resolve() not in leave_out]
            if not files:
                deeper = len(list_images(path))
                advice = f"; {deeper} are in folders below it: name these" if deeper else ""
                raise UserError(f"--query {path}: no images found in it{advice}")
        for file in files:
            queries.setdefault(os.path.abspath(file), file)
    return list(queries.values())


def read_support(image_path: Path, mask_path: Path, value: int | None = None) -> Support:
    """Read an annotated image and say how its mask was understood; ``value`` is the object's in a mask of several.

    Raises ``UserError``, also for a mask without object.
    """
    image, mask = read_image(image_path), read_object(mask_path, value)
    check_same_size(image_path, image.shape[:2], mask_path, mask.ids.shape)
    logger.info("%s: %s", mask_path, mask.understood)
    doubt = doubt_about(mask.ids)
    if doubt is not None:
        logger.warning("WARNING: %s: %s", mask_path, doubt)
    return Support(mask_path, image, mask.ids)
