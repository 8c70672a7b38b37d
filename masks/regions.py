"""Regions of pseudo masks that may be objects of episodes, and their embeddings (SPEC sections 11.7 and 11.8)."""

from __future__ import annotations

from typing import Literal

import numpy as np

RegionRule = Literal["span", "border"]

IGNORE = 255
# Rule span: a region that leaves less than this share of rows, or of columns, empty is background.
_EMPTY_SHARE = 0.01
# Rule border: a region that covers more than these shares of the border's pixels, or of the image, is background.
_BORDER_SHARE = 0.35
_IMAGE_SHARE = 0.70


def kept_regions(mask: np.ndarray, *, min_area: int = 2048, rule: RegionRule = "span") -> list[int]:
    """The ids in a pseudo mask that may be episodes' objects, in rising order.

    ``mask`` (H, W) uint8 holds ids 0..254, 255 is ignored. An id is kept when it covers at least ``min_area``
    pixels and is not background by ``rule``.
    """
    is_background = {"span": _spans_image, "border": _fills_border}[rule]
    ids, areas = np.unique(mask, return_counts=True)
    large = [int(region) for region, area in zip(ids, areas, strict=True) if area >= min_area and region != IGNORE]
    return [region for region in large if not is_background(mask == region)]


def _spans_image(region: np.ndarray) -> bool:
    empty_rows = (~region.any(axis=1)).mean()
    empty_columns = (~region.any(axis=0)).mean()
    return bool(min(empty_rows, empty_columns) < _EMPTY_SHARE)


def _fills_border(region: np.ndarray) -> bool:
    border = np.concatenate([region[0], region[-1], region[1:-1, 0], region[1:-1, -1]])
    return bool(border.mean() > _BORDER_SHARE or region.mean() > _IMAGE_SHARE)


def region_rows(
    labels: np.ndarray, features: np.ndarray, *, row: int, by_id: bool, min_area: int, rule: RegionRule
) -> dict[str, np.ndarray]:
    """The kept regions of one pseudo mask as columns of the region index, R rows each.

    ``labels`` (H, W) uint8; ``features`` (D, h, w); ``row`` is the photograph's place in the list. ``by_id``
    groups regions by id (ids mean the same everywhere), else all share group 0. Returns image, region, group, area
    (R,) int32 and embedding (R, D) float16 of unit length.
    """
    kept = kept_regions(labels, min_area=min_area, rule=rule)
    pooled = [mask_pool(features, labels == region) for region in kept]
    embedding = np.array(pooled, dtype=np.float32).reshape(len(kept), len(features))
    embedding /= np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return {
        "image": np.full(len(kept), row, dtype=np.int32),
        "region": np.array(kept, dtype=np.int32),
        "group": np.array(kept if by_id else [0] * len(kept), dtype=np.int32),
        "area": np.array([np.count_nonzero(labels == region) for region in kept], dtype=np.int32),
        "embedding": embedding.astype(np.float16),
    }


def mask_pool(features: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean over a mask of a feature map enlarged to the mask's size (bilinear with corner alignment).

    ``features`` (D, h, w) float; ``mask`` (H, W) bool, True inside, not empty. Returns (D,). The map is never
    enlarged: the mask is brought down to it by the transposed interpolation, Wy^T M Wx.
    """
    rows = _interpolation(features.shape[1], mask.shape[0])
    columns = _interpolation(features.shape[2], mask.shape[1])
    weights = rows.T @ mask.astype(rows.dtype) @ columns  # (h, w)
    pooled: np.ndarray = np.tensordot(features, weights / mask.sum(), axes=([1, 2], [0, 1]))
    return pooled


def _interpolation(source: int, target: int) -> np.ndarray:
    """(target, source) float32 matrix of linear interpolation with aligned ends."""
    positions = np.linspace(0, source - 1, target)
    low = np.minimum(positions.astype(int), max(source - 2, 0))
    fraction = positions - low
    matrix = np.zeros((target, source), dtype=np.float32)
    matrix[np.arange(target), low] = 1 - fraction
    matrix[np.arange(target), np.minimum(low + 1, source - 1)] += fraction
    return matrix
