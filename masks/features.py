"""Feature maps of images: on a CPU in parallel on single threads, on a GPU in batches of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import numpy as np
import torch

from model.frozen.extractors import Extractor

# Images that go through a GPU at once. A batch is always full: the fastest kernels for another batch size may round
# differently, and a mask must not depend on which images were left when a run was continued.
_BATCH = 8
_SHORTEST = 1e-12


class FeatureMaps:
    """The extractor's features of images of any sizes."""

    def __init__(self, extractor: Extractor, pool: ThreadPoolExecutor) -> None:
        self.extractor = extractor
        self.pool = pool

    def __call__(self, images: Sequence[np.ndarray], *, scale: float = 1.0) -> list[np.ndarray]:
        """Features of each image, (H, W, 3) uint8 -> (D, h, w) float32; the extractor sees values times scale / 255."""
        extract = partial(self._extract, scale=scale)
        if self.extractor.mean.device.type == "cpu":
            return [maps[0] for maps in self.pool.map(extract, ([image] for image in images))]
        features: list[np.ndarray] = [np.empty(0)] * len(images)
        for places in _of_one_shape(images):
            for place, maps in zip(places, extract([images[place] for place in places]), strict=False):
                features[place] = maps
        return features

    def _extract(self, images: Sequence[np.ndarray], scale: float) -> np.ndarray:
        """Images of one shape -> (B, D, h, w); on a GPU B is always ``_BATCH``, padded with the first image."""
        device = self.extractor.mean.device
        filling = [] if device.type == "cpu" else [images[0]] * (_BATCH - len(images))
        pixels = torch.from_numpy(np.stack([*images, *filling])).to(device).permute(0, 3, 1, 2)
        features: np.ndarray = self.extractor(pixels.float() * (scale / 255)).cpu().numpy()
        return features


def _of_one_shape(images: Sequence[np.ndarray]) -> list[list[int]]:
    """Places of images that have the same shape, at most ``_BATCH`` together."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        by_shape.setdefault(image.shape, []).append(place)
    return [places[start : start + _BATCH] for places in by_shape.values() for start in range(0, len(places), _BATCH)]


def unit_length(features: np.ndarray) -> np.ndarray:
    """Scale every position of a map (D, h, w) to unit length; a position of zeros stays."""
    lengths = np.linalg.norm(features, axis=0, keepdims=True)
    scaled: np.ndarray = features / np.maximum(lengths, _SHORTEST)
    return scaled


def squares(images: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
    """Images padded with black at the bottom and right to ``size`` pixels a side, as the published code does."""
    padded = [np.zeros((size, size, 3), dtype=np.uint8) for _ in images]
    for square, image in zip(padded, images, strict=True):
        square[: image.shape[0], : image.shape[1]] = image
    return padded


@lru_cache(maxsize=64)
def interpolation(source: int, target: int) -> np.ndarray:
    """(target, source) float32 matrix of linear interpolation with aligned ends; read-only."""
    positions = np.linspace(0, source - 1, target)
    low = np.minimum(positions.astype(int), max(source - 2, 0))
    fraction = positions - low
    matrix = np.zeros((target, source), dtype=np.float32)
    matrix[np.arange(target), low] = 1 - fraction
    matrix[np.arange(target), np.minimum(low + 1, source - 1)] += fraction
    return matrix
