"""A sheet of example episodes: support, query, truth, prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from util.draw import contact_sheet, overlay
from util.images import IMAGENET_MEAN, IMAGENET_STD, write_image

TITLES = ("support", "query", "truth", "prediction")


class ExampleSheet:
    """Keeps every n-th of ``total`` scored episodes, ``count`` in all.

    ``query_image(row)`` reads the photograph of a row of the list as RGB uint8 (H0, W0, 3).
    """

    def __init__(self, count: int, total: int, query_image: Callable[[int], np.ndarray]) -> None:
        self.count = count
        self.every = max(1, total // max(count, 1))
        self.query_image = query_image
        self.seen = 0
        self.rows: list[list[np.ndarray]] = []

    def add(self, batch: Mapping[str, Any], i: int, prediction: Tensor) -> None:
        """Take episode ``i`` of ``batch`` and its prediction (H0, W0) 0/1, when its turn has come."""
        if self.seen % self.every == 0 and len(self.rows) < self.count:
            query = self.query_image(int(batch["query_index"][i]))
            self.rows.append(
                [
                    overlay(_photograph(batch["support_images"][i, 0]), batch["support_masks"][i, 0].numpy()),
                    query,
                    overlay(query, batch["original_mask"][i].numpy()),
                    overlay(query, prediction.numpy()),
                ]
            )
        self.seen += 1

    def save(self, path: Path) -> None:
        """Write the sheet, if there is anything on it."""
        if self.rows:
            write_image(path, contact_sheet(self.rows, TITLES))


def _photograph(image: Tensor) -> np.ndarray:
    """(3, H, W) normalised -> (H, W, 3) RGB uint8."""
    colours = image.permute(1, 2, 0).numpy() * IMAGENET_STD + IMAGENET_MEAN
    return (255 * colours).clip(0, 255).astype(np.uint8)
