"""The groups of metrics in the report on pseudo masks, each with the protocol it was measured by; JSON values only.

Shares and IoUs are in percent; a metric that could not be measured is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from masks.report.quality import (
    Overlap,
    adjusted_rand,
    effective_number,
    matched_ious,
    normalised_mutual_information,
    pooled_mean,
    purity,
    quartiles,
)

MetricGroup = dict[str, Any]

_NO_CLUSTERS = "this recipe has no clusters"
_NO_PIXELS = "every pixel of the labels is ignored (255)"
_RECALLS = (0.3, 0.5, 0.7)
_POOLED = "total: every one counts equally; per_image: the mean within each image that has any, then over these images"


def region_metrics(shares: Sequence[np.ndarray]) -> MetricGroup:
    """Kept regions of N images: ``shares`` (R,) of the image, in 0..1, for each image."""
    counts = list(map(len, shares))
    with_region = float(100 * np.mean(np.array(counts) > 0))
    return {
        "protocol": "kept regions as in regions.safetensors; areas in percent of the image",
        "images": len(counts),
        "regions": sum(counts),
        "images_with_region": with_region,
        "images_without_region": 100 - with_region,
        "regions_per_image": float(np.mean(counts)),
        "images_by_number_of_regions": {str(number): images for number, images in sorted(Counter(counts).items())},
        "area": quartiles(100 * np.concatenate(shares)),
    }


def cluster_metrics(pixels: np.ndarray, groups: np.ndarray, cluster_num: int | None) -> MetricGroup:
    """Sizes of K clusters: ``pixels`` (256,) of each id, ``groups`` the cluster of every kept region."""
    if cluster_num is None:
        return {"left_out": _NO_CLUSTERS}
    return {
        "protocol": "sizes over all images; effective number: exponential of the entropy of the sizes",
        "clusters": cluster_num,
        "pixels": _sizes(pixels[:cluster_num]),
        "regions": _sizes(np.bincount(groups, minlength=cluster_num)),
    }


def _sizes(sizes: np.ndarray) -> MetricGroup:
    return {
        "smallest": int(sizes.min()),
        "median": float(np.median(sizes)),
        "largest": int(sizes.max()),
        "empty": int((sizes == 0).sum()),
        "effective_number": effective_number(sizes),
    }


def clustering_metrics(table: np.ndarray, cluster_num: int | None) -> MetricGroup:
    """How clusters agree with classes; ``table`` (256, C + 1) counts pixels of id and class over all images."""
    if cluster_num is None:
        return {"left_out": _NO_CLUSTERS}
    table = table[:cluster_num]
    if not table.any():
        return {"left_out": _NO_PIXELS}
    ious = 100 * matched_ious(table)
    return {
        "protocol": (
            "all pixels of the labelled images in one table of clusters by classes with background; label 255 "
            "ignored. mIoU: one cluster for one class, matched for the highest sum of IoUs (Hungarian method); "
            "classes without cluster count 0, classes without pixels are left out; clusters without class predict "
            "nothing. Normalised mutual information (0..1): by the mean of the entropies. Purity: percent of pixels "
            "of their cluster's commonest class; of one cluster: what a single cluster has. Adjusted Rand: 1 equal, "
            "0 chance"
        ),
        "miou": float(np.nanmean(ious)),
        "normalised_mutual_information": normalised_mutual_information(table),
        "purity": 100 * purity(table),
        "purity_of_one_cluster": 100 * purity(table.sum(axis=0, keepdims=True)),
        "adjusted_rand": adjusted_rand(table),
        "iou_per_class": {str(number): float(iou) for number, iou in enumerate(ious) if not np.isnan(iou)},
        "classes_without_pixels": np.flatnonzero(np.isnan(ious)).tolist(),
    }


def object_metrics(overlaps: Sequence[Overlap], min_area: int) -> dict[str, MetricGroup]:
    """``objects``: how well the kept regions cover the true objects; ``kept_regions``: what they lie on."""
    object_best = [image.object_best for image in overlaps]
    region_best = [image.region_best for image in overlaps]
    background = [image.region_background for image in overlaps]
    objects = {
        "protocol": (
            f"an object is a class with at least {min_area} pixels in an image; its overlap is the best IoU with a "
            f"kept region of the image, 0 where there is none; recall: share of objects with at least that. "
            f"{_POOLED}. Label 255 ignored"
        ),
        "objects": sum(map(len, object_best)),
        "best_overlap": _percent(object_best),
        **{f"recall_at_{iou}": _percent([best >= iou for best in object_best]) for iou in _RECALLS},
        "area": quartiles(100 * np.concatenate([image.object_area for image in overlaps])),
    }
    regions = {
        "protocol": (
            "kept regions of the labelled images; mostly background: more than half of the pixels; overlap: the "
            f"best IoU with a class in the image, of any size. {_POOLED}. Label 255 ignored"
        ),
        "regions": sum(map(len, region_best)),
        "mostly_background": _percent([share > 0.5 for share in background]),
        "overlap_above_half": _percent([best > 0.5 for best in region_best]),
        "best_overlap": _percent(region_best),
        "area": quartiles(100 * np.concatenate([image.region_area for image in overlaps])),
    }
    return {"objects": objects, "kept_regions": regions}


def _percent(values: Sequence[np.ndarray]) -> dict[str, float | None]:
    means = pooled_mean(values)
    return {name: None if mean is None else 100 * mean for name, mean in means.items()}
