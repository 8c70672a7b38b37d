"""Measures of pseudo masks: how their clusters fit true classes, and their regions true objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import entropy

from util.images import IGNORE

IDS = 256


class Overlap(NamedTuple):
    """How R kept regions and O true objects of one image overlap; each array float64, in 0..1."""

    object_best: np.ndarray  # (O,) the object's best IoU with any region, 0 where there is none
    object_area: np.ndarray  # (O,) its share of the image
    region_best: np.ndarray  # (R,) the region's best IoU with any class, however small
    region_area: np.ndarray  # (R,) its share of the image
    region_background: np.ndarray  # (R,) the share of its pixels that are background


def contingency(mask: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Pixels of each pair of pseudo id and true class, int64 (256, classes + 1).

    ``mask`` (H, W) uint8 holds ids 0..255; ``label`` (H, W) uint8 holds 0 background, 1..classes, 255 ignore. Pixels
    whose label is 255 are not counted.
    """
    valid = label != IGNORE
    pairs = mask[valid].astype(np.int64) * (classes + 1) + label[valid]
    return np.bincount(pairs, minlength=IDS * (classes + 1)).reshape(IDS, classes + 1)


def overlap(table: np.ndarray, kept: np.ndarray, min_area: int) -> Overlap:
    """Compare the kept regions of one image with its true objects.

    ``table`` int64 (256, C + 1) is the image's ``contingency``, ``kept`` (R,) the ids of the regions. A true
    object is a class with ``min_area`` pixels or more in the image: several dogs are one object.
    """
    intersection = table[kept, 1:]  # (R, C)
    region_areas, class_areas = table[kept].sum(axis=1), table[:, 1:].sum(axis=0)
    iou = intersection / np.maximum(region_areas[:, None] + class_areas - intersection, 1)
    is_object = (class_areas > 0) & (class_areas >= min_area)
    pixels = max(int(table.sum()), 1)
    return Overlap(
        object_best=iou[:, is_object].max(axis=0, initial=0.0),
        object_area=class_areas[is_object] / pixels,
        region_best=iou.max(axis=1, initial=0.0),
        region_area=region_areas / pixels,
        region_background=table[kept, 0] / np.maximum(region_areas, 1),
    )


def matched_ious(table: np.ndarray) -> np.ndarray:
    """IoU of each class with the cluster that is matched to it: float64 (C,) in 0..1, NaN for a class without pixels.

    ``table`` (K, C) counts pixels of cluster and class over a whole dataset. Each cluster is matched to one class at
    most and each class to one cluster at most, so that the sum of the IoUs is the highest possible (Hungarian
    method). A class without cluster has 0. Clusters without class predict nothing: the pixels they hold are missed
    by their classes and are false positives of none, as in STEGO (https://arxiv.org/abs/2203.08414), which however
    matches by pixels instead of IoU.
    """
    union = table.sum(axis=1, keepdims=True) + table.sum(axis=0) - table
    iou = table / np.maximum(union, 1)
    clusters, classes = linear_sum_assignment(iou, maximize=True)
    matched = np.zeros(table.shape[1])
    matched[classes] = iou[clusters, classes]
    return np.where(table.sum(axis=0) > 0, matched, np.nan)


def normalised_mutual_information(table: np.ndarray) -> float:
    """Mutual information of cluster and class over the mean of their entropies, 0..1; ``table`` (K, C) of pixels.

    It is scikit-learn's ``normalized_mutual_info_score`` of all pixels, whose ``mutual_info_score(contingency=...)``
    overflows at the pixels of COCO (the product of two marginals, int64).
    """
    of_clusters, of_classes = entropy(table.sum(axis=1)), entropy(table.sum(axis=0))
    if of_clusters + of_classes == 0:
        return 1.0  # one cluster, one class
    information = of_clusters + of_classes - entropy(table.ravel())
    return float(max(2 * information / (of_clusters + of_classes), 0.0))


def purity(table: np.ndarray) -> float:
    """The share of pixels whose class is the commonest one of their cluster, 0..1; ``table`` (K, C) of pixels."""
    return float(table.max(axis=1).sum() / table.sum())


def adjusted_rand(table: np.ndarray) -> float:
    """Adjusted Rand index of cluster and class, 1 for equal partitions, about 0 by chance; ``table`` (K, C) of pixels.

    Hubert and Arabie, Comparing partitions, 1985. In floating point, because pairs of pairs overflow int64.
    """
    both, clusters, classes, pixels = (
        _pairs(counts) for counts in (table, table.sum(axis=1), table.sum(axis=0), table.sum())
    )
    by_chance = clusters * classes / pixels
    highest = (clusters + classes) / 2
    return 1.0 if highest == by_chance else float((both - by_chance) / (highest - by_chance))


def _pairs(counts: np.ndarray) -> float:
    exact = np.asarray(counts, dtype=np.float64)
    return float((exact * (exact - 1) / 2).sum())


def effective_number(sizes: np.ndarray) -> float:
    """The exponential of the entropy of ``sizes`` (K,): K for equal sizes, 1 when one cluster holds everything."""
    return float(np.exp(entropy(sizes)))


def pooled_mean(values: Sequence[np.ndarray]) -> dict[str, float | None]:
    """The mean of measurements from several images, one array (n,) each, n >= 0; None where there are none.

    ``total``: every measurement counts equally; ``per_image``: the mean, over the images that have any, of their
    means.
    """
    measured = [array for array in values if len(array)]
    if not measured:
        return {"total": None, "per_image": None}
    means = [array.mean() for array in measured]
    return {"total": float(np.concatenate(measured).mean()), "per_image": float(np.mean(means))}


def quartiles(values: np.ndarray) -> dict[str, float | None]:
    """Quartiles of ``values`` (n,), None where there are none."""
    names = ("lower_quartile", "median", "upper_quartile")
    if not len(values):
        return dict.fromkeys(names)
    return dict(zip(names, np.quantile(values, (0.25, 0.5, 0.75)).tolist(), strict=True))
