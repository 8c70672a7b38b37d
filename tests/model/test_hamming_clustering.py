"""Clustering: ours depends on its inputs only, the published one on global generators."""

import numpy as np
import pytest
import torch
from torch import Tensor

from model import FSSModel
from model.clusterutils import hamming_kmeans, lsh_hash
from model.hamming_clustering import HammingClustering, PublishedHammingClustering, _lowest, one_by_one
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


@pytest.mark.parametrize("training", [False, True])
def test_all_sets_at_once_are_clustered_as_each_alone(training: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 150, 8, generator=generator)
    members = torch.rand(2, 3, 150, generator=generator) < torch.tensor([0.9, 0.3, 0.2])[:, None]
    members[1, 1, 20:] = False  # fewer than its clusters

    def alone(pixels: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return HammingClustering().train(training)(pixels, k)

    together = HammingClustering().train(training).assign(features, members, (20, 30, 5))
    expected = one_by_one(alone)(features, members, (20, 30, 5))
    enough = members.sum(-1) > torch.tensor([20, 30, 5])
    assert enough.sum() == 5
    assert torch.equal(together[enough], expected[enough])
    assert (together[~members] == -1).all()


def test_first_centroids_are_drawn_evenly_without_repetition() -> None:
    clustering = HammingClustering().train()
    lengths = torch.tensor([4, 7])
    drawn = torch.stack([_lowest(clustering._draw(7, 2)[1], lengths, 2) for _ in range(700)])
    assert (drawn[..., 0] != drawn[..., 1]).all()
    for g, length in enumerate(lengths.tolist()):
        shares = drawn[:, g].flatten().bincount(minlength=7) / 1400
        assert shares[length:].sum() == 0
        torch.testing.assert_close(shares[:length], torch.full((length,), 1 / length), rtol=0.2, atol=0)


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
