"""Intersection and union of masks, added up over episodes (docs/method.md, section 12)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

_TINY = 1e-10  # areas are whole numbers of pixels, so this only makes 0/0 equal 0


def intersection_union(
    prediction: Tensor, target: Tensor, k: int, ignore_index: int = 255
) -> tuple[Tensor, Tensor, Tensor]:
    """Areas in pixels for each label 0..k-1.

    prediction and target: integer tensors of one shape, labels 0..k-1; pixels whose target is ``ignore_index`` are not
    counted. Returns intersection, union and target area, each (k,) int64. Neither input is changed.
    """
    valid = target != ignore_index
    prediction, target = prediction[valid].long(), target[valid].long()
    predicted_area = prediction.bincount(minlength=k)[:k]
    target_area = target.bincount(minlength=k)[:k]
    intersection = target[prediction == target].bincount(minlength=k)[:k]
    return intersection, predicted_area + target_area - intersection, target_area


class Areas(NamedTuple):
    """Pixels of one prediction or of several together; ignored pixels are in none of the four."""

    overlap: int  # of predicted and true object
    predicted: int
    true: int
    pixels: int

    @property
    def union(self) -> int:
        """Pixels of the predicted or the true object."""
        return self.predicted + self.true - self.overlap

    @property
    def object_iou(self) -> float:
        """In 0..1."""
        return self.overlap / (self.union + _TINY)

    @property
    def background_iou(self) -> float:
        """In 0..1."""
        return (self.pixels - self.union) / (self.pixels - self.overlap + _TINY)

    @property
    def object_accuracy(self) -> float:
        """Share of the true object that is predicted, in 0..1."""
        return self.overlap / (self.true + _TINY)

    @property
    def accuracy(self) -> float:
        """Share of the pixels that are predicted as what they are, in 0..1."""
        return (self.pixels - self.union + self.overlap) / (self.pixels + _TINY)


class EpisodeScore(NamedTuple):
    """One scored episode: the slot that counts its class, the name of the query image, the areas.

    ``similarity`` of the query and the supports' object is measured where the object may be missing.
    """

    slot: int
    query: str
    areas: Areas
    similarity: float | None = None


@dataclass
class EpisodeMetrics:
    """The scores of episodes and their totals for each slot: a class, or what the protocol maps a class to.

    ``seconds`` is the time that all predictions took.
    """

    scores: list[EpisodeScore] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, slot: int, query: str, prediction: Tensor, target: Tensor) -> EpisodeScore:
        """Score prediction (H, W) 0/1 against target (H, W) 0/1/255 and keep the score."""
        intersection, union, area = intersection_union(prediction, target, k=2)
        predicted = union[1] + intersection[1] - area[1]
        areas = Areas(int(intersection[1]), int(predicted), int(area[1]), int(area.sum()))
        score = EpisodeScore(slot, query, areas)
        self.scores.append(score)
        return score

    @property
    def episodes(self) -> int:
        return len(self.scores)

    @property
    def empty_predictions(self) -> int:
        return sum(score.areas.predicted == 0 for score in self.scores)

    def total(self) -> Areas:
        """The areas of all episodes."""
        return _sum(score.areas for score in self.scores)

    def totals_per_class(self) -> dict[int, Areas]:
        """The areas of each slot that was drawn, added up."""
        areas: dict[int, list[Areas]] = defaultdict(list)
        for score in self.scores:
            areas[score.slot].append(score.areas)
        return {slot: _sum(areas[slot]) for slot in sorted(areas)}

    def per_class(self) -> dict[int, float]:
        """IoU of the object for each slot that was drawn, in 0..1: areas are added up before they are divided."""
        return {slot: areas.object_iou for slot, areas in self.totals_per_class().items()}

    def per_class_accuracy(self) -> dict[int, float]:
        """Share of the object that is predicted, for each slot that was drawn, in 0..1."""
        return {slot: areas.object_accuracy for slot, areas in self.totals_per_class().items()}

    def miou(self) -> float:
        """Mean of ``per_class``; slots that no episode drew are left out."""
        ious = self.per_class().values()
        return sum(ious) / len(ious)

    def fb_iou(self) -> float:
        """Mean of the background's and the object's IoU over all episodes, regardless of class, in 0..1."""
        total = self.total()
        return (total.background_iou + total.object_iou) / 2

    def means(self) -> dict[str, float]:
        """``miou``, ``fb_iou`` and ``accuracy``, the share of all pixels that are predicted rightly, in 0..1."""
        return {"miou": self.miou(), "fb_iou": self.fb_iou(), "accuracy": self.total().accuracy}


def _sum(areas: Iterable[Areas]) -> Areas:
    return Areas(*map(sum, zip(*areas, strict=True)))
