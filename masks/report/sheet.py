"""Sheets of examples for the report on pseudo masks, with the images and without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from episodes.lists import ImageList
from masks.pseudo_masks import PseudoMasks
from util.errors import UserError
from util.images import read_image, read_label, write_image
from util.images.draw import contact_sheet, painted
from util.seed import python_random

SHEET = "report.png"
MASKS_SHEET = "report_masks.png"
_CELL = 320


def save_sheets(
    masks: PseudoMasks, images: ImageList, labels: Sequence[Path | None], *, seed: int, count: int = 8
) -> None:
    """Draw ``count`` random images and write both sheets into the pseudo folder.

    ``images`` and ``labels`` are in the folder's order; there is a column of true labels when there is any label.
    Raises ``UserError`` when a sheet would replace a mask, and for an unreadable file.
    """
    for name in (SHEET, MASKS_SHEET):
        if name in {masks.mask_path(row).name for row in range(len(masks))}:
            raise UserError(f"{masks.folder / name}: the mask of an image; rename that image to get a sheet")
    rows = sorted(python_random(seed, "report sheet").sample(range(len(masks)), min(count, len(masks))))
    titles = ["pseudo mask", "kept regions", *(["true label"] if any(labels) else [])]
    over_images, alone = [], []
    for row in rows:
        image, maps = read_image(images.image_path(row)), _maps(masks, row, labels)[: len(titles)]
        over_images.append([image, *(painted(image, ids) for ids in maps)])
        alone.append([painted(np.zeros_like(image), ids, opacity=1.0) for ids in maps])
    write_image(masks.folder / SHEET, contact_sheet(over_images, ["image", *titles], _CELL))
    write_image(masks.folder / MASKS_SHEET, contact_sheet(alone, titles, _CELL))


def _maps(masks: PseudoMasks, row: int, labels: Sequence[Path | None]) -> list[np.ndarray]:
    """Pseudo mask, kept regions, true label (0 without one), each uint8 (H, W) where 0 is not painted."""
    mask, path = masks.read(row), labels[row]
    ids = mask + np.uint8(1)  # id 0 is a cluster like the others, and 255, no cluster, becomes 0
    kept = np.where(np.isin(mask, masks.kept[row]), ids, 0)
    return [ids, kept, np.zeros_like(mask) if path is None else read_label(path)]
