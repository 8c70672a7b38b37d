"""From clusters to pseudo masks: scores and the vote of the superpixels (docs/method.md, sections 11.4 and 11.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from masks.features import FeatureMaps, interpolation, squares, unit_length
from masks.prepared_images import Photograph

# Feature maps of one photograph, (D, h, w) float32 each.
Maps = tuple[np.ndarray, ...]


class Segmentation(NamedTuple):
    """A pseudo mask ``labels`` (H, W) uint8 and ``features`` (D, h, w) float32 of unit length at every position,
    of which its regions' embeddings are made."""

    labels: np.ndarray
    features: np.ndarray


def vote(labels: np.ndarray, superpixels: np.ndarray, k: int) -> np.ndarray:
    """Give every superpixel the id that most of its pixels have; the lowest of several.

    ``labels`` (H, W) integer in 0..k-1, ``superpixels`` (H, W) integer from 0. Returns (H, W) of the type of
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
    """The best id at every pixel: scores (K, h, w) float32 enlarged (bilinear, aligned corners) -> (H, W) uint8.

    The lowest of several. The scores are enlarged band by band, between two rows of theirs, and only those of ids that
    can win there: in the middle of a band an id lies between its values at the two rows.
    """
    columns = scores @ interpolation(scores.shape[2], width).T  # (K, h, W)
    place, fraction = np.divmod(np.linspace(0, scores.shape[1] - 1, height, dtype=np.float32), 1)
    labels = np.empty((height, width), dtype=np.uint8)
    for row in np.unique(place).astype(int):
        inside = place == row
        above, below = columns[:, row], columns[:, min(row + 1, scores.shape[1] - 1)]
        can_win = (np.maximum(above, below) >= np.minimum(above, below).max(axis=0)).any(axis=1)
        labels[inside] = _best_of_band(above, below, fraction[inside, None], np.flatnonzero(can_win))
    return labels


def _best_of_band(above: np.ndarray, below: np.ndarray, fraction: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Of some ``ids`` the best at each pixel between two rows of scores (K, W); ``fraction`` (n, 1) -> (n, W) uint8."""
    best = np.full((len(fraction), above.shape[1]), -np.inf, dtype=np.float32)
    labels = np.zeros(best.shape, dtype=np.uint8)
    for one in ids:
        values = above[one] + fraction * (below[one] - above[one])
        np.copyto(labels, one, where=values > best, casting="unsafe")
        np.maximum(best, values, out=best)
    return labels


def centroid_scores(features: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """How near each position is to each centroid: features (D, h, w), centroids (K, D) -> (K, h, w), higher is nearer.

    Minus the squared distance, up to a term that all centroids share.
    """
    scores: np.ndarray = 2 * np.tensordot(centroids, features, axes=1) - (centroids**2).sum(axis=1)[:, None, None]
    return scores


class GlobalClusters:
    """Recipe ``global``: every pixel takes the id of the nearest centroid of the whole dataset.

    ``published`` stretches the scores of the padded square over the image, leaves the last superpixel at 0, and
    feeds the network 0..255 for the embeddings, as the published code does.
    """

    def __init__(self, features: FeatureMaps, centroids: np.ndarray, *, size: int, published: bool) -> None:
        self.features = features
        self.centroids = centroids
        self.size = size
        self.published = published

    def extract(self, photographs: Sequence[Photograph]) -> list[Maps]:
        """The map that is compared with the centroids, and that of the whole image for the embeddings."""
        resized = [photograph.resized for photograph in photographs]
        compared = comparable_maps(self.features, resized, size=self.size, published=self.published)
        images = [photograph.image for photograph in photographs]
        embedded = self.features(images, scale=255 if self.published else 1)
        return list(zip(compared, embedded, strict=True))

    def segment(self, photograph: Photograph, maps: Maps) -> Segmentation:
        """Segment a photograph whose ``resized`` fits ``size`` and whose superpixels are there."""
        compared, embedded = maps
        superpixels = photograph.superpixels
        pixels = label_map(centroid_scores(compared, self.centroids), *photograph.image.shape[:2])
        labels = vote(pixels, superpixels, len(self.centroids))
        if self.published:
            labels[superpixels == superpixels.max()] = 0
        return Segmentation(labels, unit_length(embedded))


def comparable_maps(
    features: FeatureMaps, resized: Sequence[np.ndarray], *, size: int, published: bool
) -> list[np.ndarray]:
    """Maps of unit length that are clustered, and compared with the centroids: of the image as it is.

    ``published``: of the image padded with black to a square of ``size`` pixels, the padding's positions included.
    """
    return [unit_length(one) for one in features(squares(resized, size) if published else resized)]
