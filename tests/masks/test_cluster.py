"""Mini-batch k-means against golden values and its definition."""

from __future__ import annotations

import numpy as np
import pytest

from masks.cluster import kmeans, minibatch_kmeans, minibatch_update, nearest_centroids
from tests import golden
from util.errors import UserError


def test_matches_golden() -> None:
    values = golden.load("minibatch_kmeans")
    batches = values["features_per_batch"].numpy()
    groups = [batches[:2], batches[2:4]]
    centroids = minibatch_kmeans(groups, cluster_num=4, seed=values["faiss_seed"])
    assert np.allclose(centroids, values["final_centroids"], rtol=1e-5, atol=1e-7)


def test_update_matches_golden() -> None:
    values = golden.load("minibatch_kmeans")
    batches = values["features_per_batch"].numpy()
    start = values["init_centroids"].numpy()
    counts = np.bincount(nearest_centroids(start, batches[:2].reshape(-1, 16)), minlength=4).astype(np.float64)
    centroids, counts = minibatch_update(start, counts, batches[2:4].reshape(-1, 16))
    assert np.allclose(centroids, values["final_centroids"], rtol=1e-5, atol=1e-7)
    assert np.array_equal(counts, values["counts"])


def test_update_moves_by_the_share_of_new_features() -> None:
    centroids = np.array([[0, 0], [10, 0], [50, 50]], dtype=np.float32)
    features = np.array([[1, 0], [3, 0], [10, 4]], dtype=np.float32)
    moved, counts = minibatch_update(centroids, np.array([6.0, 0.0, 5.0]), features)
    # 2 of now 8 features at a mean of (2, 0); 1 of 1; none.
    assert np.allclose(moved, np.array([[0.5, 0], [10, 4], [50, 50]]), atol=1e-4)
    assert counts.tolist() == [8, 1, 5]


def test_every_batch_counts_also_of_an_incomplete_last_group() -> None:
    """The published code dropped the last group unless it was full."""
    first = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    last = np.full((1, 3), 9, dtype=np.float32)
    without = minibatch_kmeans([[first]], cluster_num=2, seed=1)
    assert not np.allclose(without, minibatch_kmeans([[first], [last]], cluster_num=2, seed=1))


def test_a_group_in_parts_is_the_group_at_once() -> None:
    features = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    at_once = minibatch_kmeans([[features[:30]], [features[30:]]], cluster_num=3, seed=1)
    groups = [np.split(features[:30], [4, 9]), np.split(features[30:], [1, 20])]
    assert np.allclose(at_once, minibatch_kmeans(groups, cluster_num=3, seed=1), atol=1e-6)


def test_kmeans_finds_separate_clusters_and_is_deterministic() -> None:
    rng = np.random.default_rng(3)
    centres = np.array([[0, 0], [20, 0]])
    features = (centres[rng.integers(0, 2, 300)] + rng.normal(size=(300, 2))).astype(np.float32)
    centroids = kmeans(features, 2, seed=1534)
    assert np.allclose(centroids[centroids[:, 0].argsort()], centres, atol=0.3)
    assert np.array_equal(centroids, kmeans(features, 2, seed=1534))


def test_more_clusters_than_features_is_refused() -> None:
    with pytest.raises(UserError, match=r"Cluster\.cluster_num=5 is more than the 4 features"):
        minibatch_kmeans([[np.zeros((4, 2), dtype=np.float32)]], cluster_num=5, seed=1)
