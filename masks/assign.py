"""From clusters to pseudo masks: scores, vote of the superpixels, the recipe ``global`` (SPEC sections 11.4, 11.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from masks.photographs import Photograph, feature_maps, square_feature_maps, unit_length
from model.extractors import Extractor


@dataclass(frozen=True)
class Segmentation:
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
    return winners[superpixels]


def label_map(scores: np.ndarray, height: int, width: int) -> np.ndarray:
    """The best id at every pixel: scores (K, h, w) float32 enlarged (bilinear, aligned corners) -> (H, W) uint8."""
    enlarged = torch.nn.functional.interpolate(
        torch.from_numpy(scores)[None], size=(height, width), mode="bilinear", align_corners=True
    )
    return enlarged[0].argmax(dim=0).to(torch.uint8).numpy()


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

    def __init__(self, extractor: Extractor, centroids: np.ndarray, *, size: int, published: bool) -> None:
        self.extractor = extractor
        self.centroids = centroids
        self.size = size
        self.published = published

    def segment(self, photographs: Sequence[Photograph]) -> list[Segmentation]:
        """Segment photographs whose ``resized`` fits ``size`` and whose superpixels are there."""
        resized = [photograph.resized for photograph in photographs]
        maps = square_feature_maps(self.extractor, resized, size=self.size, keep_padding=self.published)
        images = [photograph.image for photograph in photographs]
        embedded = feature_maps(self.extractor, images, scale=255 if self.published else 1)
        return [
            Segmentation(self._labels(photograph, features), unit_length(embedding_features))
            for photograph, features, embedding_features in zip(photographs, maps, embedded, strict=True)
        ]

    def _labels(self, photograph: Photograph, features: np.ndarray) -> np.ndarray:
        superpixels = photograph.superpixels
        pixels = label_map(centroid_scores(features, self.centroids), *photograph.image.shape[:2])
        labels = vote(pixels, superpixels, len(self.centroids))
        if self.published:
            labels[superpixels == superpixels.max()] = 0
        return labels
