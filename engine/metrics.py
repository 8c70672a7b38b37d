"""Intersection and union of masks, added up over episodes (SPEC section 12)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor


def intersection_union(
    prediction: Tensor, target: Tensor, k: int, ignore_index: int = 255
) -> tuple[Tensor, Tensor, Tensor]:
    """Areas in pixels for each label 0..k-1.

    prediction and target: integer tensors of one shape, labels 0..k-1; pixels whose target is ``ignore_index`` count
    nowhere. Returns intersection, union and target area, each (k,) int64. Neither input is changed.
    """
    valid = target != ignore_index
    prediction, target = prediction[valid].long(), target[valid].long()
    predicted_area = torch.bincount(prediction, minlength=k)[:k]
    target_area = torch.bincount(target, minlength=k)[:k]
    intersection = torch.bincount(target[prediction == target], minlength=k)[:k]
    return intersection, predicted_area + target_area - intersection, target_area


@dataclass
class EpisodeMetrics:
    """Areas of background and object, added up for each slot (a class, or what the protocol makes of it)."""

    intersection: dict[int, Tensor] = field(default_factory=lambda: defaultdict(lambda: torch.zeros(2).long()))
    union: dict[int, Tensor] = field(default_factory=lambda: defaultdict(lambda: torch.zeros(2).long()))
    predicted_pixels: int = 0
    object_pixels: int = 0
    pixels: int = 0
    empty_predictions: int = 0
    episodes: int = 0

    def add(self, slot: int, prediction: Tensor, target: Tensor) -> None:
        """prediction (H, W) 0/1; target (H, W) 0/1/255."""
        intersection, union, area = intersection_union(prediction, target, k=2)
        self.intersection[slot] = self.intersection[slot] + intersection
        self.union[slot] = self.union[slot] + union
        predicted = int(union[1] + intersection[1] - area[1])
        self.predicted_pixels += predicted
        self.object_pixels += int(area[1])
        self.pixels += int(area.sum())
        self.empty_predictions += predicted == 0
        self.episodes += 1

    def per_class(self) -> dict[int, float]:
        """IoU of the object for each slot that was drawn, in 0..1."""
        return {
            slot: float(self.intersection[slot][1]) / (float(self.union[slot][1]) + 1e-10)
            for slot in sorted(self.intersection)
        }

    def miou(self) -> float:
        """Mean of ``per_class``; a slot that no episode drew is not in it."""
        ious = self.per_class().values()
        return sum(ious) / len(ious)

    def fb_iou(self) -> float:
        """Mean of the background's and the object's IoU over all episodes, classes not told apart, in 0..1."""
        intersection = torch.stack(list(self.intersection.values())).sum(0)
        union = torch.stack(list(self.union.values())).sum(0)
        return float((intersection / (union + 1e-10)).mean())
