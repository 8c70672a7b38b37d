"""K-means over the features of a whole dataset, by any number of processes (docs/method.md, section 11.3).

Features are kept as float16, whose sums are exact in float64: neither the order of the images nor the number of threads
or processes changes a centroid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from masks.prepared_images import CHUNK
from util.array_files import read_left_over, write_tensors
from util.distributed import gathered, rank, summed, wait_for_all, world_size
from util.errors import UserError
from util.seed import numpy_random, python_random

# Images whose features make one group: 100 batches of 32 in the published code.
GROUP_IMAGES = 3200
ITERATIONS = 30
# An empty cluster takes half of the largest one: its centroid moves aside by this share.
_SPLIT = 1 / 1024
_SMALLEST = 1e-12
_STATE_FILE = "state.safetensors"
_STATE_KINDS = {"centroids": ("float32", 2), "counts": ("float64", 1), "groups": ("int64", 1)}
_FEATURE_KINDS = {"features": ("float16", 2)}

Algorithm = Literal["minibatch", "spherical"]
# Features of the images on these rows, (D, h, w) float32 of unit length at every position.
Extract = Callable[[Sequence[int]], Iterable[np.ndarray]]


@dataclass(frozen=True)
class ClusterSettings:
    """Everything except the features that determines the centroids.

    ``minibatch``: k-means on the first ``GROUP_IMAGES`` images, then one step of mini-batch k-means for each further
    group. ``spherical``: k-means on all images at once, centroids of unit length. ``images`` limits the number of
    images (0: all); where their features would take more than ``memory_gb`` in all processes together, each image
    contributes a random subset of its positions. ``drop_incomplete`` leaves out an incomplete last group, as the
    published code does.
    """

    cluster_num: int
    seed: int
    algorithm: Algorithm = "minibatch"
    images: int = 0
    memory_gb: float = 8.0
    drop_incomplete: bool = False


class State(NamedTuple):
    """Centroids (K, D) float32, the features (K,) float64 that each has seen, and the number of groups seen."""

    centroids: np.ndarray
    counts: np.ndarray
    groups: int


def cluster_dataset(
    extract: Extract, count: int, settings: ClusterSettings, *, folder: Path, pool: ThreadPoolExecutor
) -> np.ndarray:
    """Centroids (K, D) float32 of the features of ``count`` images.

    ``folder`` keeps features and state until the end, so that an interrupted run continues from there; the caller
    deletes it. Under torchrun each process extracts the features of its share. Raises ``UserError`` when the first
    group has fewer features than clusters.
    """
    state = _load_state(folder)
    for number, rows in enumerate(groups_of(count, settings)):
        if state is not None and number < state.groups:
            continue
        own = rows[rank() :: world_size()]
        blocks = _features(extract, own, folder, numbers=_feature_limit(settings, len(rows)), seed=settings.seed)
        state = _next_state(state, blocks, settings, pool)
        wait_for_all()  # until every process has read the state before
        if rank() == 0:
            write_tensors(folder / _STATE_FILE, _as_tensors(state))
        wait_for_all()
        for row in own:
            _file(folder, row).unlink(missing_ok=True)
    assert state is not None
    return state.centroids


def groups_of(count: int, settings: ClusterSettings) -> list[list[int]]:
    """The rows of ``count`` images that are clustered, in groups."""
    rows = sampled_rows(count, settings.images, settings.seed)
    if settings.algorithm == "spherical":
        return [rows]
    if settings.drop_incomplete and len(rows) > GROUP_IMAGES:
        rows = rows[: len(rows) // GROUP_IMAGES * GROUP_IMAGES]
    return [rows[start : start + GROUP_IMAGES] for start in range(0, len(rows), GROUP_IMAGES)]


def sampled_rows(count: int, images: int, seed: int) -> list[int]:
    """All rows of ``count`` images in order, or a random sample of ``images`` of them; 0: all."""
    rows = list(range(count))
    return python_random(seed, "images to cluster").sample(rows, images) if 0 < images < count else rows


def kmeans(
    blocks: Sequence[np.ndarray], cluster_num: int, seed: int, *, spherical: bool, pool: ThreadPoolExecutor
) -> tuple[np.ndarray, np.ndarray]:
    """K-means on the features of all processes: centroids (K, D) float32, and (K,) float64 the features of each.

    ``blocks`` holds this process's features, (n, D) float16 for each image. 30 iterations from random features; an
    empty cluster takes half of the largest one, as in faiss, which itself sums in single precision: its centroids would
    depend on the order of the images and on how processes share them. Raises ``UserError`` for fewer features than K.
    """
    centroids = _random_features(blocks, cluster_num, seed)
    for _ in range(ITERATIONS):
        sums, counts = _statistics(centroids, blocks, pool)
        moved = _means(sums, counts, spherical=spherical)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids, _statistics(centroids, blocks, pool)[1]


def minibatch_update(
    centroids: np.ndarray, counts: np.ndarray, sums: np.ndarray, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One step of mini-batch k-means: each centroid moves to the mean of its new features by their share.

    ``centroids`` (K, D) float32, ``counts`` (K,) float64 features seen by each so far, ``sums`` (K, D) and ``members``
    (K,) of the new ones. Returns the new centroids and counts; a centroid without new features stays where it is.
    """
    counts = counts + members
    rate = (members / (counts + 1e-6))[:, None]
    means = sums / np.maximum(members, 1)[:, None]
    return ((1 - rate) * centroids + rate * means).astype(np.float32), counts


def nearest_centroids(centroids: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Index of the centroid nearest to each feature: (K, D), (N, D) float32 -> (N,) int64, lowest index on a tie."""
    scores = 2 * features @ centroids.T - (centroids**2).sum(axis=1)
    nearest: np.ndarray = scores.argmax(axis=1)
    return nearest


def _next_state(
    state: State | None, blocks: list[np.ndarray], settings: ClusterSettings, pool: ThreadPoolExecutor
) -> State:
    if state is None:
        spherical = settings.algorithm == "spherical"
        return State(*kmeans(blocks, settings.cluster_num, settings.seed, spherical=spherical, pool=pool), groups=1)
    sums, members = _statistics(state.centroids, blocks, pool)
    return State(*minibatch_update(state.centroids, state.counts, sums, members), groups=state.groups + 1)


def _random_features(blocks: Sequence[np.ndarray], cluster_num: int, seed: int) -> np.ndarray:
    """K different features of all processes, drawn over the images in the order of their group: (K, D) float32."""
    lengths = np.zeros(sum(gathered(len(blocks))), dtype=np.int64)
    lengths[rank() :: world_size()] = [len(block) for block in blocks]
    starts = np.concatenate([[0], np.cumsum(summed(torch.from_numpy(lengths)).numpy())])
    if starts[-1] < cluster_num:
        raise UserError(
            f"Cluster.cluster_num={cluster_num} is more than the {starts[-1]} features of the images: "
            "lower it, or raise Cluster.cluster_size"
        )
    drawn = numpy_random(seed, "first centroids").choice(starts[-1], cluster_num, replace=False)
    images = np.searchsorted(starts, drawn, side="right") - 1
    channels = max(gathered(blocks[0].shape[1] if blocks else 0))  # a process may have no image
    centroids = np.zeros((cluster_num, channels))
    for centroid, (image, feature) in enumerate(zip(images, drawn, strict=True)):
        place, remainder = divmod(int(image) - rank(), world_size())
        if remainder == 0:
            centroids[centroid] = blocks[place][feature - starts[image]]
    return summed(torch.from_numpy(centroids)).numpy().astype(np.float32)


def _statistics(
    centroids: np.ndarray, blocks: Sequence[np.ndarray], pool: ThreadPoolExecutor
) -> tuple[np.ndarray, np.ndarray]:
    """Sums (K, D) and number (K,) of the features nearest to each centroid, over all processes; float64, exact."""
    parts = [blocks[start : start + CHUNK] for start in range(0, len(blocks), CHUNK)]
    sums, counts = np.zeros(centroids.shape), np.zeros(len(centroids))
    for part_sums, part_counts in pool.map(partial(_sum_blocks, centroids), parts):
        sums += part_sums
        counts += part_counts
    return summed(torch.from_numpy(sums)).numpy(), summed(torch.from_numpy(counts)).numpy()


def _sum_blocks(centroids: np.ndarray, blocks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """``_statistics`` of some blocks, one by one: products of other shapes may round differently."""
    sums, counts = np.zeros(centroids.shape), np.zeros(len(centroids))
    for block in blocks:
        nearest = nearest_centroids(centroids, block.astype(np.float32))
        membership = np.eye(len(centroids))[:, nearest]  # (K, n)
        sums += membership @ block.astype(np.float64)
        counts += membership.sum(axis=1)
    return sums, counts


def _means(sums: np.ndarray, counts: np.ndarray, *, spherical: bool) -> np.ndarray:
    """The clusters' means (K, D) float32; the sums' directions where ``spherical``."""
    counts = counts.copy()
    means = sums / np.maximum(counts, 1)[:, None]
    if spherical:
        means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), _SMALLEST)
    aside = np.where(np.arange(sums.shape[1]) % 2 == 0, _SPLIT, -_SPLIT)
    for empty in np.flatnonzero(counts == 0):
        largest = counts.argmax()
        means[empty] = means[largest] * (1 + aside)
        means[largest] *= 1 - aside
        counts[[empty, largest]] = counts[largest] / 2
    return means.astype(np.float32)


def _feature_limit(settings: ClusterSettings, images: int) -> int:
    """Numbers that one image may keep in memory."""
    return math.floor(settings.memory_gb * 1e9 / np.dtype(np.float16).itemsize / images)


def _features(extract: Extract, rows: Sequence[int], folder: Path, *, numbers: int, seed: int) -> list[np.ndarray]:
    """The features of the images on these rows, (n, D) float16 each, at most ``numbers`` numbers.

    Those of images that have no whole file in ``folder`` yet are extracted and written there.
    """
    kept = {row: read_left_over(_file(folder, row), _FEATURE_KINDS) for row in rows}
    blocks = {row: arrays["features"] for row, arrays in kept.items() if arrays is not None}
    missing = [row for row in rows if row not in blocks]
    for row, features in zip(missing, extract(missing), strict=True):
        block = features.reshape(len(features), -1).T.astype(np.float16)
        most = max(1, numbers // len(features))
        if len(block) > most:
            block = block[np.sort(numpy_random(seed, "positions", row).choice(len(block), most, replace=False))]
        blocks[row] = np.ascontiguousarray(block)
        write_tensors(_file(folder, row), {"features": blocks[row]})
    return [blocks[row] for row in rows]


def _file(folder: Path, row: int) -> Path:
    return folder / f"{row:07d}.safetensors"


def _as_tensors(state: State) -> dict[str, np.ndarray]:
    return {"centroids": state.centroids, "counts": state.counts, "groups": np.array([state.groups])}


def _load_state(folder: Path) -> State | None:
    arrays = read_left_over(folder / _STATE_FILE, _STATE_KINDS)
    return None if arrays is None else State(arrays["centroids"], arrays["counts"], int(arrays["groups"].sum()))
