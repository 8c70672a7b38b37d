"""Mini-batch k-means over the features of a whole dataset (SPEC section 11.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice

import faiss
import numpy as np

from episodes.lists import ImageList
from masks.photographs import BATCH, Photograph, load_photographs, square_feature_maps
from model.extractors import Extractor
from util.errors import UserError
from util.seed import python_random

# Images whose features make one group: 100 batches of 32 in the published code.
GROUP_IMAGES = 3200
_ITERATIONS = 30


def cluster_dataset(
    extractor: Extractor,
    images: ImageList,
    *,
    cluster_num: int,
    size: int,
    limit: int,
    seed: int,
    workers: int,
    published: bool,
) -> np.ndarray:
    """Centroids (cluster_num, D) float32 of the features of all images, or of ``limit`` drawn ones (0: all).

    ``size`` is the longer side at which features are taken. ``published`` counts the padding's features as well
    and drops an incomplete last group of images, as the published code does.
    """
    rows = list(range(len(images)))
    if 0 < limit < len(rows):
        rows = python_random(seed, "images to cluster").sample(rows, limit)
    if published and len(rows) > GROUP_IMAGES:
        rows = rows[: len(rows) // GROUP_IMAGES * GROUP_IMAGES]
    batches = load_photographs(images, rows, size=size, superpixels=None, workers=workers, title="clustering")

    def positions(photographs: list[Photograph]) -> np.ndarray:
        resized = [photograph.resized for photograph in photographs]
        maps = square_feature_maps(extractor, resized, size=size, keep_padding=published)
        return np.concatenate([features.reshape(len(features), -1).T for features in maps])

    groups = (map(positions, group) for group in _in_groups(batches, GROUP_IMAGES // BATCH))
    return minibatch_kmeans(groups, cluster_num=cluster_num, seed=seed)


def _in_groups(batches: Iterator[list[Photograph]], length: int) -> Iterator[Iterator[list[Photograph]]]:
    """Cut a stream into streams of ``length`` batches; each must be used up before the next is asked for."""
    for first in batches:
        yield chain([first], islice(batches, length - 1))


def minibatch_kmeans(groups: Iterable[Iterable[np.ndarray]], *, cluster_num: int, seed: int) -> np.ndarray:
    """Cluster features that come in groups of batches, each batch (N, D) float32; returns (cluster_num, D).

    The first group is clustered by k-means and is the only one that is held in memory; every later group moves
    the centroids once, by ``minibatch_update``. Raises ``UserError`` when the first group has fewer features than
    clusters.
    """
    stream = iter(groups)
    features = _gather(next(stream))
    if len(features) < cluster_num:
        raise UserError(
            f"Cluster.cluster_num={cluster_num} is more than the {len(features)} features of the images: "
            "lower it, or raise Cluster.cluster_size"
        )
    centroids = kmeans(features, cluster_num, seed)
    counts = np.bincount(nearest_centroids(centroids, features), minlength=cluster_num).astype(np.float64)
    del features
    for batches in stream:
        sums, members = np.zeros(centroids.shape), np.zeros(cluster_num)
        for batch in batches:
            _accumulate(centroids, batch, sums, members)
        centroids, counts = _move(centroids, counts, sums, members)
    return centroids


def minibatch_update(centroids: np.ndarray, counts: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One step of mini-batch k-means: each centroid moves to the mean of its features by their share.

    ``centroids`` (K, D) float32, ``counts`` (K,) float64 features seen by each so far, ``features`` (N, D)
    float32. Returns the new centroids and counts; a centroid without features stays where it is.
    """
    sums, members = np.zeros(centroids.shape), np.zeros(len(centroids))
    _accumulate(centroids, features, sums, members)
    return _move(centroids, counts, sums, members)


def kmeans(features: np.ndarray, cluster_num: int, seed: int) -> np.ndarray:
    """Plain k-means on all of ``features`` (N, D) float32, N >= cluster_num; returns (cluster_num, D) float32."""
    clustering = faiss.Kmeans(
        features.shape[1],
        cluster_num,
        niter=_ITERATIONS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(features),  # no subsampling
    )
    clustering.train(np.ascontiguousarray(features))
    return np.asarray(clustering.centroids)


def nearest_centroids(centroids: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Index of the centroid nearest to each feature: (K, D), (N, D) -> (N,) int64, lowest index on a tie."""
    scores = 2 * features @ centroids.T - (centroids**2).sum(axis=1)
    nearest: np.ndarray = scores.argmax(axis=1)
    return nearest


def _gather(batches: Iterable[np.ndarray]) -> np.ndarray:
    """All rows in one array; each batch is freed once it is copied, so that nothing is held twice."""
    waiting = deque(batches)
    features = np.empty((sum(map(len, waiting)), waiting[0].shape[1]), dtype=np.float32)
    filled = 0
    while waiting:
        batch = waiting.popleft()
        features[filled : filled + len(batch)] = batch
        filled += len(batch)
    return features


def _accumulate(centroids: np.ndarray, features: np.ndarray, sums: np.ndarray, members: np.ndarray) -> None:
    """Add each feature to the sum of its nearest centroid."""
    nearest = nearest_centroids(centroids, features)
    membership = np.eye(len(centroids), dtype=features.dtype)[nearest]  # (N, K)
    sums += membership.T @ features
    members += membership.sum(axis=0)


def _move(
    centroids: np.ndarray, counts: np.ndarray, sums: np.ndarray, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    counts = counts + members
    rate = (members / (counts + 1e-6))[:, None]
    means = sums / np.maximum(members, 1)[:, None]
    return ((1 - rate) * centroids + rate * means).astype(np.float32), counts
