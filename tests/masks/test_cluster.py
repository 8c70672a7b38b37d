"""Clustering a dataset: golden values, naive loops, exact sums, groups, memory, and runs that are continued."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from masks import cluster
from masks.cluster import ClusterSettings, cluster_dataset, groups_of, kmeans, minibatch_update, nearest_centroids
from masks.prepared_images import thread_pool
from tests import golden
from util.errors import UserError


def _blocks(seed: int, count: int = 12, channels: int = 6) -> list[np.ndarray]:
    """Features of unit length around five directions, of ``count`` images."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(5, channels))
    blocks = [directions[rng.integers(0, 5, 7)] + rng.normal(scale=0.2, size=(7, channels)) for _ in range(count)]
    return [(block / np.linalg.norm(block, axis=1, keepdims=True)).astype(np.float16) for block in blocks]


def _maps(blocks: Sequence[np.ndarray], rows_read: list[int] | None = None) -> cluster.Extract:
    """An extractor of these features, which notes the rows that it is asked for."""

    def extract(rows: Sequence[int]) -> Iterator[np.ndarray]:
        for row in rows:
            if rows_read is not None:
                rows_read.append(row)
            yield blocks[row].T.reshape(blocks[row].shape[1], 1, -1).astype(np.float32)

    return extract


def _members(centroids: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums and numbers of the features nearest to each centroid, one by one."""
    sums, counts = np.zeros(centroids.shape), np.zeros(len(centroids))
    for feature in features.astype(np.float64):
        nearest = ((centroids - feature) ** 2).sum(axis=1).argmin()
        sums[nearest] += feature
        counts[nearest] += 1
    return sums, counts


def test_golden_centroids_of_the_first_group_stay_where_they_are(pool: ThreadPoolExecutor) -> None:
    """Other first centroids end elsewhere; where the golden ones ended, an iteration of ours moves nothing."""
    values = golden.load("minibatch_kmeans")
    blocks = list(values["features_per_batch"].numpy()[:2].astype(np.float16))
    centroids = values["init_centroids"].numpy()
    moved = cluster._means(*cluster._statistics(centroids, blocks, pool), spherical=False)
    assert np.allclose(moved, centroids, atol=1e-3)


def test_further_groups_match_golden() -> None:
    values = golden.load("minibatch_kmeans")
    batches, start = values["features_per_batch"].numpy(), values["init_centroids"].numpy()
    _, counts = _members(start, batches[:2].reshape(-1, 16))
    centroids, counts = minibatch_update(start, counts, *_members(start, batches[2:4].reshape(-1, 16)))
    assert np.allclose(centroids, values["final_centroids"], rtol=1e-5, atol=1e-7)
    assert np.array_equal(counts, values["counts"])


def test_update_moves_by_the_share_of_new_features() -> None:
    centroids = np.array([[0, 0], [10, 0], [50, 50]], dtype=np.float32)
    sums, members = _members(centroids, np.array([[1, 0], [3, 0], [10, 4]]))
    moved, counts = minibatch_update(centroids, np.array([6.0, 0.0, 5.0]), sums, members)
    # 2 of now 8 features at a mean of (2, 0); 1 of 1; none.
    assert np.allclose(moved, np.array([[0.5, 0], [10, 4], [50, 50]]), atol=1e-4)
    assert counts.tolist() == [8, 1, 5]


@pytest.mark.parametrize("spherical", [False, True])
def test_kmeans_ends_where_lloyds_algorithm_stands_still(pool: ThreadPoolExecutor, spherical: bool) -> None:
    blocks = _blocks(0)
    centroids, counts = kmeans(blocks, 5, seed=3, spherical=spherical, pool=pool)
    sums, members = _members(centroids, np.concatenate(blocks))
    lengths = np.linalg.norm(sums, axis=1) if spherical else members
    assert np.allclose(centroids, sums / lengths[:, None], atol=1e-6)
    assert np.array_equal(counts, members)


def test_neither_order_nor_threads_change_a_bit() -> None:
    blocks = _blocks(1, count=70, channels=33)
    start = np.concatenate(blocks)[:9].astype(np.float32)
    with thread_pool(1) as one, thread_pool(3) as three:
        sums, counts = cluster._statistics(start, blocks, one)
        for others in (blocks[::-1], blocks[40:] + blocks[:40]):
            other_sums, other_counts = cluster._statistics(start, others, three)
            assert np.array_equal(sums, other_sums) and np.array_equal(counts, other_counts)
        first, second = (kmeans(blocks, 9, seed=1, spherical=False, pool=pool)[0] for pool in (one, three))
    assert np.array_equal(first, second)
    expected_sums, expected_counts = _members(start, np.concatenate(blocks))
    assert np.array_equal(counts, expected_counts)
    assert np.array_equal(sums, expected_sums)  # exact, so naive addition gives the same bits


def test_nearest_centroid_is_the_nearest_and_the_first_on_a_tie() -> None:
    centroids = np.array([[0, 1], [1, 0], [1, 0]], dtype=np.float32)
    assert nearest_centroids(centroids, np.array([[0.9, 0], [0, 0.9]], dtype=np.float32)).tolist() == [1, 0]


@pytest.mark.parametrize("spherical", [False, True])
def test_an_empty_cluster_takes_half_of_the_largest(pool: ThreadPoolExecutor, spherical: bool) -> None:
    """Two different features and four clusters: two would stay empty at first."""
    features = np.repeat(np.array([[0.6, 0.8], [1, 0]], dtype=np.float16), [30, 3], axis=0)
    centroids, counts = kmeans([features], 4, seed=1, spherical=spherical, pool=pool)
    assert np.isfinite(centroids).all()
    assert counts.sum() == 33
    assert {tuple(np.round(c, 1)) for c in centroids[counts > 0]} == {(np.float32(0.6), np.float32(0.8)), (1.0, 0.0)}


def test_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "GROUP_IMAGES", 4)
    settings = ClusterSettings(cluster_num=2, seed=1)
    assert groups_of(10, settings) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert groups_of(10, replace(settings, drop_incomplete=True)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert groups_of(3, replace(settings, drop_incomplete=True)) == [[0, 1, 2]]
    assert groups_of(10, replace(settings, algorithm="spherical")) == [list(range(10))]
    drawn = groups_of(10, replace(settings, images=3))
    assert drawn == groups_of(10, replace(settings, images=3))
    assert len(set(drawn[0])) == 3 and set(drawn[0]) < set(range(10))


def test_every_group_moves_the_centroids(
    tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published code dropped the last group unless it was full."""
    blocks = _blocks(2, count=11)
    monkeypatch.setattr(cluster, "GROUP_IMAGES", 5)
    settings = ClusterSettings(cluster_num=3, seed=1)
    clustered = cluster_dataset(_maps(blocks), 11, settings, folder=tmp_path, pool=pool)
    centroids, counts = kmeans(blocks[:5], 3, 1, spherical=False, pool=pool)
    for group in (blocks[5:10], blocks[10:]):
        centroids, counts = minibatch_update(centroids, counts, *_members(centroids, np.concatenate(group)))
    assert np.allclose(clustered, centroids, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]  # features are deleted group by group


@pytest.mark.parametrize("stop_at", [3, 8])
def test_an_interrupted_clustering_goes_on(
    tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    blocks, settings = _blocks(3, count=11), ClusterSettings(cluster_num=3, seed=1)
    monkeypatch.setattr(cluster, "GROUP_IMAGES", 5)

    def interrupted(rows: Sequence[int]) -> Iterable[np.ndarray]:
        for row, features in zip(rows, _maps(blocks)(rows), strict=True):
            if row == stop_at:
                raise KeyboardInterrupt
            yield features

    with pytest.raises(KeyboardInterrupt):
        cluster_dataset(interrupted, 11, settings, folder=tmp_path / "stopped", pool=pool)
    rows_read: list[int] = []
    continued = cluster_dataset(_maps(blocks, rows_read), 11, settings, folder=tmp_path / "stopped", pool=pool)
    assert rows_read == list(range(stop_at, 11))
    assert np.array_equal(continued, cluster_dataset(_maps(blocks), 11, settings, folder=tmp_path / "o", pool=pool))


def test_memory_bounds_the_features_of_each_image(
    tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = _blocks(4, count=10)
    seen: list[list[np.ndarray]] = []

    def keep(blocks: list[np.ndarray], *_: object, **__: object) -> tuple[np.ndarray, np.ndarray]:
        seen.append(blocks)
        return np.zeros((2, 6), dtype=np.float32), np.zeros(2)

    monkeypatch.setattr(cluster, "kmeans", keep)
    for repetition, memory in enumerate((10 * 3 * 6 * 2 / 1e9, 10 * 3 * 6 * 2 / 1e9, 1.0)):
        settings = ClusterSettings(cluster_num=2, seed=1, memory_gb=memory)
        cluster_dataset(_maps(blocks), 10, settings, folder=tmp_path / str(repetition), pool=pool)
    assert [block.shape for block in seen[0]] == [(3, 6)] * 10
    assert all(np.array_equal(one, again) for one, again in zip(seen[0], seen[1], strict=True))
    for kept, block in zip(seen[0], blocks, strict=True):
        assert (kept[:, None] == block).all(axis=2).any(axis=1).all()
    assert all(np.array_equal(kept, all_) for kept, all_ in zip(seen[2], blocks, strict=True))


def test_more_clusters_than_features_is_refused(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    settings = ClusterSettings(cluster_num=8, seed=1)
    with pytest.raises(UserError, match=r"Cluster\.cluster_num=8 is more than the 7 features"):
        cluster_dataset(_maps(_blocks(0, count=1)), 1, settings, folder=tmp_path, pool=pool)
