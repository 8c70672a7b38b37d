"""Pictures of episodes: two sheets of a test (examples from typical on, worst predictions), one row in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from engine.evaluate import batch_logits
from engine.metrics import EpisodeScore
from util.distributed import gathered
from util.images import IMAGENET_MEAN, IMAGENET_STD, write_image
from util.images.draw import contact_sheet, outlined

TITLES = ("support", "query", "truth", "prediction")
EXAMPLES, WORST = "examples.png", "worst.png"
_CELL = 240


class _Row(NamedTuple):
    """The pictures of an episode under ``TITLES``, and what stands above them."""

    iou: float
    number: int
    caption: str
    pictures: list[np.ndarray]

    @property
    def rank(self) -> tuple[float, int]:
        """The lower, the worse; of two with equal IoU the earlier one in the test is the worse."""
        return self.iou, self.number


class Gallery:
    """Keeps every n-th of ``total`` scored episodes, ``count`` in all, and the ``count`` with the lowest IoU.

    Of the worst, one for each query image. ``query_image(row)`` reads the image of a row of the list as RGB uint8
    (H0, W0, 3). ``class_names`` are for the captions, where classes have names.
    """

    def __init__(
        self,
        count: int,
        total: int,
        query_image: Callable[[int], np.ndarray],
        class_names: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self.count = count
        self.every = max(1, total // max(count, 1))
        self.query_image = query_image
        self.class_names = class_names
        self.examples: dict[int, _Row] = {}
        self.worst: dict[str, _Row] = {}

    def add(self, number: int, batch: Mapping[str, Any], i: int, prediction: Tensor, score: EpisodeScore) -> None:
        """Consider episode ``number`` of the test, ``i`` of ``batch``, and its prediction (H0, W0) of 0/1."""
        if number % self.every == 0 and number < self.count * self.every:
            self.examples[number] = self._row(number, batch, i, prediction, score)
        if self._is_among_the_worst(score.query, (score.areas.object_iou, number)):
            self._add_failure(score.query, self._row(number, batch, i, prediction, score))

    def gather(self) -> None:
        """Join what all processes keep: the same as one would."""
        for examples, worst in gathered((self.examples, self.worst)):
            self.examples |= examples
            for query, failure in worst.items():
                if self._is_among_the_worst(query, failure.rank):
                    self._add_failure(query, failure)

    def save(self, folder: Path) -> None:
        """Write ``examples.png``, those next to the median IoU first, and ``worst.png``; each unless it is empty."""
        median = float(np.median([row.iou for row in self.examples.values()] or [0]))
        examples = sorted(self.examples.values(), key=lambda row: (abs(row.iou - median), row.number))
        worst = sorted(self.worst.values(), key=lambda row: row.rank)
        for name, rows in ((EXAMPLES, examples), (WORST, worst)):
            if rows:
                captions = [[row.caption] for row in rows]
                write_image(folder / name, contact_sheet([row.pictures for row in rows], TITLES, _CELL, captions))

    def _is_among_the_worst(self, query: str, rank: tuple[float, int]) -> bool:
        if query in self.worst:
            return rank < self.worst[query].rank
        return len(self.worst) < self.count or any(rank < row.rank for row in self.worst.values())

    def _add_failure(self, query: str, failure: _Row) -> None:
        self.worst[query] = failure
        if len(self.worst) > self.count:
            del self.worst[max(self.worst, key=lambda query: self.worst[query].rank)]

    def _row(self, number: int, batch: Mapping[str, Any], i: int, prediction: Tensor, score: EpisodeScore) -> _Row:
        caption = episode_caption(number, int(batch["class_id"][i]), score, self.class_names)
        query = self.query_image(int(batch["query_index"][i]))
        pictures = episode_pictures(batch, i, query, batch["original_mask"][i], prediction)
        return _Row(score.areas.object_iou, number, caption, pictures)


def episode_caption(number: int, class_id: int, score: EpisodeScore, class_names: Mapping[int, str]) -> str:
    """What stands above the pictures of an episode of a test."""
    described = f"{class_id} {class_names.get(class_id, '')}".strip()
    iou = 100 * score.areas.object_iou
    return f"IoU {iou:.1f} %, class {described}, {PurePath(score.query).name}, episode {number}"


@torch.inference_mode()
def episode_picture(model: nn.Module, batch: Mapping[str, Any], device: torch.device) -> np.ndarray:
    """The first episode of a training batch and its prediction as a sheet of one row: RGB uint8 (H, W, 3).

    The model predicts in evaluation mode and is left in training mode.
    """
    model.eval()
    prediction = batch_logits(model, batch, device)[0].argmax(dim=0).cpu()
    model.train()
    content = content_slices(batch["query_padding"][0])
    query, truth = _rgb(batch["query_image"][0])[content], batch["query_mask"][0][content]
    return contact_sheet([episode_pictures(batch, 0, query, truth, prediction[content])], TITLES, _CELL)


def episode_pictures(
    batch: Mapping[str, Any], i: int, query: np.ndarray, truth: Tensor, prediction: Tensor
) -> list[np.ndarray]:
    """The images under ``TITLES`` for episode ``i``, RGB uint8 (H, W, 3), of several supports the first.

    ``query`` RGB uint8 (H, W, 3); both masks (H, W) integer: 0 background, 1 object, 255 not counted.
    """
    return [
        support_picture(batch, i, 0),
        query,
        outlined(query, truth.numpy()),
        outlined(query, prediction.numpy()),
    ]


def support_picture(batch: Mapping[str, Any], i: int, shot: int) -> np.ndarray:
    """A support of episode ``i`` with its mask outlined, without padding: RGB uint8 (H, W, 3)."""
    content = content_slices(batch["support_padding"][i, shot])
    support, mask = _rgb(batch["support_images"][i, shot]), batch["support_masks"][i, shot].numpy()
    return outlined(support[content], mask[content])


def content_slices(padding: Tensor) -> tuple[slice, slice]:
    """The rows and columns (H, W) that are not all padding: what a letterboxed image covers."""
    shown = ~padding.numpy()
    rows, columns = (np.flatnonzero(shown.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _rgb(image: Tensor) -> np.ndarray:
    """(3, H, W) normalised -> (H, W, 3) RGB uint8."""
    colours = image.permute(1, 2, 0).numpy() * IMAGENET_STD + IMAGENET_MEAN
    return (255 * colours).clip(0, 255).astype(np.uint8)
