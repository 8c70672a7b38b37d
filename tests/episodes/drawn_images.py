"""Images that tell by their colour which they are, and their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from episodes.transforms import TrainTransform
from util.images import IMAGENET_MEAN, IMAGENET_STD, write_image

SIZES = ((60, 80), (80, 60), (75, 50), (97, 33), (41, 90))
COUNT = 15
TRAIN = TrainTransform(height=33, width=41, scale_range=(0.8, 1.25), rotate_range=(-10.0, 10.0))
_DARKEST, _STEP = 20, 12


def row_of_view(image: torch.Tensor) -> int:
    """Which image a transformed image (3, H, W) shows, from its top-left corner."""
    red = (float(image[0, 4, 4]) * IMAGENET_STD[0] + IMAGENET_MEAN[0]) * 255
    return round((red - _DARKEST) / _STEP)


def write_image_of_row(path: Path, row: int) -> None:
    height, width = SIZES[row % len(SIZES)]
    write_image(path, np.full((height, width, 3), _DARKEST + _STEP * row, dtype=np.uint8))


def draw_label(row: int) -> np.ndarray:
    """A 24 x 20 object of class 1 + row % 3 in a void border; every fifth also has 5 x 5 pixels of class 4."""
    label = np.zeros(SIZES[row % len(SIZES)], dtype=np.uint8)
    label[8:36, 6:30] = 255
    label[10:34, 8:28] = 1 + row % 3
    if row % 5 == 0:
        label[40:45, 10:15] = 4
    return label


def draw_pseudo_mask(row: int) -> np.ndarray:
    """Regions 7 and 9 of equal size next to each other, a stripe of 255 below, one pixel of 3 in the corner."""
    mask = np.zeros(SIZES[row % len(SIZES)], dtype=np.uint8)
    mask[5:30, 3:15] = 7
    mask[5:30, 17:29] = 9
    mask[32:38] = 255
    mask[0, 0] = 3
    return mask
