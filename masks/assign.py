"""From centroids to pseudo masks: scores, and the vote of the superpixels (docs/method.md, sections 11.4 and 11.5)."""

from __future__ import annotations

import numpy as np

from masks.features import interpolation


def vote(labels: np.ndarray, superpixels: np.ndarray, k: int) -> np.ndarray:
    """Give every superpixel the id that most of its pixels have; ties go to the lowest id.

    ``labels`` (H, W) integer in 0..k-1, ``superpixels`` (H, W) integer from 0. Returns (H, W) of the dtype of
    ``labels``. Raises ``ValueError`` when a label is out of range.
    """
    if labels.min() < 0 or labels.max() >= k:
        raise ValueError(f"labels must be in 0..{k - 1}, found {labels.min()}..{labels.max()}")
    count = int(superpixels.max()) + 1
    pairs = superpixels.astype(np.int64) * k + labels
    histogram = np.bincount(pairs.ravel(), minlength=count * k).reshape(count, k)
    winners: np.ndarray = histogram.argmax(axis=1).astype(labels.dtype)
    return winners.take(superpixels)


def label_map(scores: np.ndarray, height: int, width: int) -> np.ndarray:
    """The best id at every pixel: scores (K, h, w) float32, enlarged bilinearly with aligned corners -> (H, W) uint8.

    Ties go to the lowest id. The scores are enlarged band by band, a band lying between two of their rows, and only for
    ids that can win there: inside a band the score of an id lies between its values at the two rows.
    """
    # Columns at full width, rows still at the resolution of the map.
    columns = scores @ interpolation(scores.shape[2], width).T  # (K, h, W)
    # The row of the map above each pixel row, and how far the pixel lies below it.
    place, fraction = np.divmod(np.linspace(0, scores.shape[1] - 1, height, dtype=np.float32), 1)
    labels = np.empty((height, width), dtype=np.uint8)
    for row in np.unique(place).astype(int):
        inside = place == row
        above, below = columns[:, row], columns[:, min(row + 1, scores.shape[1] - 1)]
        can_win = (np.maximum(above, below) >= np.minimum(above, below).max(axis=0)).any(axis=1)
        labels[inside] = _best_of_band(above, below, fraction[inside, None], np.flatnonzero(can_win))
    return labels


def _best_of_band(above: np.ndarray, below: np.ndarray, fraction: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The best of ``ids`` at each pixel between two rows of scores (K, W); ``fraction`` (n, 1) -> (n, W) uint8."""
    best = np.full((len(fraction), above.shape[1]), -np.inf, dtype=np.float32)
    labels = np.zeros(best.shape, dtype=np.uint8)
    for candidate in ids:
        values = above[candidate] + fraction * (below[candidate] - above[candidate])
        np.copyto(labels, candidate, where=values > best, casting="unsafe")
        np.maximum(best, values, out=best)
    return labels


def centroid_scores(features: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Closeness of each position to each centroid: features (D, h, w), centroids (K, D) -> (K, h, w), higher is closer.

    Minus the squared distance, up to a term that all centroids share.
    """
    scores: np.ndarray = 2 * np.tensordot(centroids, features, axes=1) - (centroids**2).sum(axis=1)[:, None, None]
    return scores
