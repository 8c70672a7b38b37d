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
from util.distributed import gathered
from util.images import IMAGENET_MEAN, IMAGENET_STD, write_image
from util.images.draw import contact_sheet, overlay

TITLES = ("support", "query", "truth", "prediction")
EXAMPLES, WORST = "examples.png", "worst.png"


class _Failure(NamedTuple):
    """Failures are compared by their IoU; of two that are equal the earlier one in the test is the worse."""

    iou: float
    number: int
    row: list[np.ndarray]

    @property
    def rank(self) -> tuple[float, int]:
        return self.iou, self.number


class Gallery:
    """Keeps every n-th of ``total`` scored episodes, ``count`` in all, and the ``count`` with the lowest IoU.

    Of the worst, one for each query image. ``query_image(row)`` reads the image of a row of the list as RGB uint8
    (H0, W0, 3).
    """

    def __init__(self, count: int, total: int, query_image: Callable[[int], np.ndarray]) -> None:
        self.count = count
        self.every = max(1, total // max(count, 1))
        self.query_image = query_image
        self.examples: dict[int, list[np.ndarray]] = {}
        self.worst: dict[str, _Failure] = {}

    def add(self, number: int, batch: Mapping[str, Any], i: int, prediction: Tensor, score: EpisodeScore) -> None:
        """Consider episode ``number`` of the test, ``i`` of ``batch``, and its prediction (H0, W0) of 0/1."""
        if number % self.every == 0 and number < self.count * self.every:
            self.examples[number] = self._row(batch, i, prediction)
        if self._is_among_the_worst(score.query, (score.areas.object_iou, number)):
            self._add_failure(score.query, _Failure(score.areas.object_iou, number, self._row(batch, i, prediction)))

    def gather(self) -> None:
        """Join what all processes keep: the same as one would."""
        for examples, worst in gathered((self.examples, self.worst)):
            self.examples |= examples
            for query, failure in worst.items():
                if self._is_among_the_worst(query, failure.rank):
                    self._add_failure(query, failure)

    def save(self, folder: Path) -> None:
        """Write ``examples.png`` and ``worst.png``, each unless it is empty."""
        examples = [self.examples[number] for number in sorted(self.examples)]
        worst = [failure.row for failure in sorted(self.worst.values(), key=lambda failure: failure.rank)]
        for name, rows in ((EXAMPLES, examples), (WORST, worst)):
            if rows:
                write_image(folder / name, contact_sheet(rows, TITLES))

    def _is_among_the_worst(self, query: str, rank: tuple[float, int]) -> bool:
        if query in self.worst:
            return rank < self.worst[query].rank
        return len(self.worst) < self.count or any(rank < failure.rank for failure in self.worst.values())

    def _add_failure(self, query: str, failure: _Failure) -> None:
        self.worst[query] = failure
        if len(self.worst) > self.count:
            del self.worst[max(self.worst, key=lambda query: self.worst[query].rank)]

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
