"""Sheets of examples for the report on pseudo masks, with the photographs and without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from episodes.lists import ImageList
from masks.pseudo_masks import MadeMasks
from util.draw import contact_sheet, overlay
from util.errors import UserError
from util.images import read_image, read_label, write_image
from util.seed import python_random

SHEET = "report.png"
MASKS_SHEET = "report_masks.png"
_CELL = 240


def save_sheets(made: MadeMasks, images: ImageList, labels: Sequence[Path | None], *, count: int, seed: int) -> None:
    """Draw ``count`` photographs and write both sheets into the pseudo folder.

    ``images`` and ``labels`` are in the folder's order; the column of true labels is there when any label is.
    Raises ``UserError`` when a sheet would take the place of a mask, and for an unreadable file.
    """
    for name in (SHEET, MASKS_SHEET):
        if name in {made.mask_path(row).name for row in range(len(made))}:
            raise UserError(f"{made.folder / name}: the mask of a photograph; rename that photograph to have a sheet")
    rows = sorted(python_random(seed, "report sheet").sample(range(len(made)), min(count, len(made))))
    titles = ["pseudo mask", "kept regions", *(["true label"] if any(labels) else [])]
    over_photographs, alone = [], []
    for row in rows:
        photograph, maps = read_image(images.image_path(row)), _maps(made, row, labels)[: len(titles)]
        over_photographs.append([photograph, *(overlay(photograph, painted) for painted in maps)])
        alone.append([overlay(np.zeros_like(photograph), painted, opacity=1.0) for painted in maps])
    write_image(made.folder / SHEET, contact_sheet(over_photographs, ["photograph", *titles], _CELL))
    write_image(made.folder / MASKS_SHEET, contact_sheet(alone, titles, _CELL))


def _maps(made: MadeMasks, row: int, labels: Sequence[Path | None]) -> list[np.ndarray]:
    """Pseudo mask, kept regions, true label (0 without one), each uint8 (H, W) where 0 is not painted."""
    mask, path = made.read(row), labels[row]
    painted = mask + np.uint8(1)  # id 0 is a cluster like the others, and 255, no cluster, becomes 0
    kept = np.where(np.isin(mask, made.kept[row]), painted, 0)
    return [painted, kept, np.zeros_like(mask) if path is None else read_label(path)]
