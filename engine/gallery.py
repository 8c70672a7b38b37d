"""Pictures of episodes: two sheets of a test (examples at even distances, worst predictions), one row in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from engine.evaluate import batch_logits
from engine.metrics import EpisodeScore
from util.images import IMAGENET_MEAN, IMAGENET_STD, write_image
from util.images.draw import contact_sheet, overlay

TITLES = ("support", "query", "truth", "prediction")
EXAMPLES, WORST = "examples.png", "worst.png"


class _Failure(NamedTuple):
    iou: float
    row: list[np.ndarray]


class Gallery:
    """Keeps every n-th of ``total`` scored episodes, ``count`` in all, and the ``count`` with the lowest IoU.

    Of the worst, one for each query image. ``query_image(row)`` reads the image of a row of the list as RGB uint8
    (H0, W0, 3).
    """

    def __init__(self, count: int, total: int, query_image: Callable[[int], np.ndarray]) -> None:
        self.count = count
        self.every = max(1, total // max(count, 1))
        self.query_image = query_image
        self.seen = 0
        self.examples: list[list[np.ndarray]] = []
        self.worst: dict[str, _Failure] = {}

    def add(self, batch: Mapping[str, Any], i: int, prediction: Tensor, score: EpisodeScore) -> None:
        """Consider episode ``i`` of ``batch`` and its prediction (H0, W0) of 0/1."""
        if self.seen % self.every == 0 and len(self.examples) < self.count:
            self.examples.append(self._row(batch, i, prediction))
        if self._is_among_the_worst(score):
            self.worst[score.query] = _Failure(score.areas.object_iou, self._row(batch, i, prediction))
            if len(self.worst) > self.count:
                del self.worst[max(self.worst, key=lambda query: self.worst[query].iou)]
        self.seen += 1

    def save(self, folder: Path) -> None:
        """Write ``examples.png`` and ``worst.png``, each unless it is empty."""
        worst = sorted(self.worst.values(), key=lambda failure: failure.iou)
        for name, rows in ((EXAMPLES, self.examples), (WORST, [failure.row for failure in worst])):
            if rows:
                write_image(folder / name, contact_sheet(rows, TITLES))

    def _is_among_the_worst(self, score: EpisodeScore) -> bool:
        if score.query in self.worst:
            return score.areas.object_iou < self.worst[score.query].iou
        full = len(self.worst) == self.count
        return not full or score.areas.object_iou < max((failure.iou for failure in self.worst.values()), default=0)

    def _row(self, batch: Mapping[str, Any], i: int, prediction: Tensor) -> list[np.ndarray]:
        query = self.query_image(int(batch["query_index"][i]))
        return _episode_row(batch, i, query, batch["original_mask"][i], prediction)


@torch.inference_mode()
def episode_picture(model: nn.Module, batch: Mapping[str, Any], device: torch.device) -> np.ndarray:
    """The first episode of a training batch and its prediction as a sheet of one row: RGB uint8 (H, W, 3).

    The model predicts in evaluation mode and is left in training mode.
    """
    model.eval()
    prediction = batch_logits(model, batch, device)[0].argmax(dim=0).cpu()
    model.train()
    row = _episode_row(batch, 0, _rgb(batch["query_image"][0]), batch["query_mask"][0], prediction)
    return contact_sheet([row], TITLES)


def _episode_row(
    batch: Mapping[str, Any], i: int, query: np.ndarray, truth: Tensor, prediction: Tensor
) -> list[np.ndarray]:
    """The images under ``TITLES`` for episode ``i``; ``query`` (H, W, 3), both masks (H, W), 0/1 and 255 ignored."""
    return [
        overlay(_rgb(batch["support_images"][i, 0]), batch["support_masks"][i, 0].numpy()),
        query,
        overlay(query, truth.numpy()),
        overlay(query, prediction.numpy()),
    ]


def _rgb(image: Tensor) -> np.ndarray:
    """(3, H, W) normalised -> (H, W, 3) RGB uint8."""
    colours = image.permute(1, 2, 0).numpy() * IMAGENET_STD + IMAGENET_MEAN
    return (255 * colours).clip(0, 255).astype(np.uint8)
