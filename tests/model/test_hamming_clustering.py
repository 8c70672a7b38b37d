"""Clustering: ours is a function of its inputs, the published one of the global generators."""

import numpy as np
import pytest
import torch
from torch import Tensor

from model import FSSModel
from model.clusterutils import hamming_kmeans, lsh_hash
from model.hamming_clustering import HammingClustering, PublishedHammingClustering
from tests.model.networks import random_episode, tiny_backbone

FEATURES = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))


def by_hand(features: Tensor, k: int, planes: Tensor, first: Tensor, updates: int) -> tuple[Tensor, Tensor]:
    codes = lsh_hash(features, planes)
    sizes = torch.tensor([len(codes)]), torch.tensor([k])
    assignment, counts, _ = hamming_kmeans(codes[None], sizes[0], codes[first][None], sizes[1], updates, 32)
    return assignment[0].long(), counts[0].long()


def test_ours_draws_anew_in_training_and_never_in_evaluation() -> None:
    clustering = HammingClustering().train()
    first, second = clustering(FEATURES, 5)[0], clustering(FEATURES, 5)[0]
    assert not torch.equal(first, second)
    resumed = HammingClustering()
    resumed.load_state_dict({"draws": torch.tensor(1)})
    assert torch.equal(resumed.train()(FEATURES, 5)[0], second)
    clustering.eval()
    assert torch.equal(clustering(FEATURES, 5)[0], clustering(FEATURES, 5)[0])


def test_the_published_one_draws_anew_in_evaluation_too_from_the_global_generators() -> None:
    clustering = PublishedHammingClustering().eval()
    torch.manual_seed(4)
    np.random.seed(4)
    first, second = clustering(FEATURES, 5)[0], clustering(FEATURES, 5)[0]
    assert not torch.equal(first, second)
    torch.manual_seed(4)
    np.random.seed(4)
    assert torch.equal(clustering(FEATURES, 5)[0], first)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_published_one_updates_nine_times_on_a_cpu(k: int) -> None:
    """With so few clusters none is empty, so nothing but planes and first centroids is random."""
    for seed in range(20):
        torch.manual_seed(seed)
        np.random.seed(seed)
        published = PublishedHammingClustering()(FEATURES, k)
        torch.manual_seed(seed)
        np.random.seed(seed)
        planes, first = torch.randn(32, 9), torch.from_numpy(np.random.choice(300, k, replace=False))
        expected = by_hand(FEATURES, k, planes, first, updates=9)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(published, expected, strict=True))


def test_an_empty_cluster_keeps_its_centroid_here_and_gets_a_random_code_there() -> None:
    codes = torch.tensor([5, 5, 5, 5])
    centroids = torch.tensor([5, 9])
    sizes = torch.tensor([4]), torch.tensor([2])
    _, counts, ours = hamming_kmeans(codes[None], sizes[0], centroids[None], sizes[1], 1, 32)
    assert counts.tolist() == [[4, 0]]
    assert ours.tolist() == [[5, 9]]
    torch.manual_seed(0)
    published = PublishedHammingClustering()._update(codes, centroids)
    assert published[0] == 5
    assert published[1] not in (5, 9)


def test_an_even_split_of_a_bit_gives_zero_on_a_cpu_in_both() -> None:
    codes, centroids = torch.tensor([0, 3]), torch.tensor([1])
    sizes = torch.tensor([2]), torch.tensor([1])
    assert hamming_kmeans(codes[None], sizes[0], centroids[None], sizes[1], 1, 32)[2].tolist() == [[0]]
    assert PublishedHammingClustering()._update(codes, centroids).tolist() == [0]


@pytest.mark.gpu
def test_an_even_split_of_a_bit_is_random_on_a_gpu_in_the_published_one() -> None:
    codes, centroids = torch.tensor([0, 2**31 - 1], device="cuda"), torch.tensor([1], device="cuda")
    results = {int(PublishedHammingClustering()._update(codes, centroids)) for _ in range(4)}
    assert len(results) > 1


def test_the_network_uses_the_one_it_is_asked_for() -> None:
    episode = random_episode(batch=1, size=129)
    for published, deterministic in ((False, True), (True, False)):
        torch.manual_seed(0)
        model = FSSModel(tiny_backbone(), channels=16, published_clustering=published).eval()
        assert torch.equal(model(*episode), model(*episode)) == deterministic
