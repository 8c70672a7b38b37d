"""Regions of pseudo masks that may be objects of episodes, and their embeddings.

docs/method.md, sections 11.7 and 11.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from masks.features import interpolation
from util.images import IGNORE


@dataclass(frozen=True)
class RegionFilter:
    """Which regions of a pseudo mask may be objects of episodes: those of ``min_area`` pixels that are not background.

    Rule ``span``: background leaves less than ``empty_share`` of the rows, or of the columns, empty. Rule ``border``:
    background covers more than ``border_share`` of the pixels on the image's border, or more than ``image_share`` of
    the image. The id ``background`` is always background; None where no id is.
    """

    min_area: float = 2048
    rule: Literal["span", "border"] = "span"
    empty_share: float = 0.01
    border_share: float = 0.35
    image_share: float = 0.70
    background: int | None = None

    def is_background(self, region: np.ndarray) -> bool:
        """True for a region (H, W) bool, True inside, that is not an object."""
        if self.rule == "span":
            empty_rows = (~region.any(axis=1)).mean()
            empty_columns = (~region.any(axis=0)).mean()
            return bool(min(empty_rows, empty_columns) < self.empty_share)
        border = np.concatenate([region[0], region[-1], region[1:-1, 0], region[1:-1, -1]])
        return bool(border.mean() > self.border_share or region.mean() > self.image_share)


def kept_regions(mask: np.ndarray, objects: RegionFilter = RegionFilter()) -> list[int]:
    """The ids in a pseudo mask that may be episodes' objects, in rising order.

    ``mask`` (H, W) uint8 holds ids 0..254, 255 is ignored.
    """
    large = np.flatnonzero(np.bincount(mask.ravel()) >= objects.min_area).tolist()
    possible = [region for region in large if region not in (IGNORE, objects.background)]
    return [region for region in possible if not objects.is_background(mask == region)]


def region_rows(
    mask: np.ndarray,
    features: np.ndarray,
    *,
    row: int,
    objects: RegionFilter,
    pixel_area: float = 1.0,
) -> dict[str, np.ndarray]:
    """The kept regions of one pseudo mask as columns of the region table, R rows each.

    ``mask`` (H, W) uint8; ``features`` (D, h, w); ``row`` is the image's place in the list. A pixel of ``mask`` stands
    for ``pixel_area`` pixels of the file. Returns image, region, group, area (R,) int32 and embedding (R, D) float16 of
    unit length; a region's id, which means the same in every image, is its group.
    """
    kept = kept_regions(mask, replace(objects, min_area=objects.min_area / pixel_area))
    embedding = mask_pool(features, [mask == region for region in kept])
    embedding /= np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return {
        "image": np.full(len(kept), row, dtype=np.int32),
        "region": np.array(kept, dtype=np.int32),
        "group": np.array(kept, dtype=np.int32),
        "area": np.array([np.count_nonzero(mask == region) * pixel_area for region in kept], dtype=np.int32),
        "embedding": embedding.astype(np.float16),
    }


def mask_pool(features: np.ndarray, regions: Sequence[np.ndarray]) -> np.ndarray:
    """Means over regions of a feature map enlarged to the regions' size (bilinear with corner alignment).

    ``features`` (D, h, w) float32; ``regions`` R of (H, W) bool, True inside, none empty. Returns (R, D). The map is
    never enlarged: each region is reduced to its resolution by the transposed interpolation, Wy^T M Wx.
    """
    channels, height, width = features.shape
    weights = np.empty((len(regions), height, width), dtype=np.float32)
    for region, reduced in zip(regions, weights, strict=True):
        rows, columns = interpolation(height, region.shape[0]), interpolation(width, region.shape[1])
        reduced[:] = rows.T @ (region.astype(np.float32) @ columns) / region.sum()
    pooled: np.ndarray = weights.reshape(len(regions), height * width) @ features.reshape(channels, -1).T
    return pooled
