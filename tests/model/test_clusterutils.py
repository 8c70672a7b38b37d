"""Hashing and Hamming k-means against golden values, naive loops and clusters whose answer is known."""

import torch

from model.clusterutils import hamming_kmeans, lsh_hash
from tests import golden


def cluster_one(codes: torch.Tensor, first: torch.Tensor, iterations: int, bits: int) -> list[torch.Tensor]:
    """A single set through the batched function."""
    lengths, ks = torch.tensor([len(codes)]), torch.tensor([len(first)])
    return [result[0] for result in hamming_kmeans(codes[None], lengths, first[None], ks, iterations, bits)]


def test_hashes_match_golden() -> None:
    values = golden.load("hamming_clustering")["hash"]
    features = torch.randn(600, 256, generator=torch.Generator().manual_seed(100)).relu()
    assert torch.equal(lsh_hash(features, values["planes"]), values["hashes"])


def test_kmeans_matches_golden() -> None:
    values = golden.load("hamming_clustering")
    for case in values["kmeans"]:
        # The published CPU code updates one time less than it is asked to.
        updates = case["iterations"] - 1
        result = cluster_one(values["hash"]["hashes"], case["init_centroids"], updates, case["bits"])
        for ours, name in zip(result, ("assignment", "counts", "final_centroids"), strict=True):
            assert torch.equal(ours, case[name]), (case["K"], name)


def test_hash_thresholds_are_strict_and_per_plane() -> None:
    planes = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -1.0], [1.0, 1.0, 0.0]])
    points = torch.tensor([[0.5, -1.0], [0.6, -0.9], [-0.5, 0.5]])
    # <x, a> > threshold: equality is no.
    assert lsh_hash(points, planes).tolist() == [0b000, 0b011, 0b010]


def test_two_clusters_of_opposite_codes_are_found() -> None:
    codes = torch.tensor([0, 0, 63, 63, 0, 63, 63])
    assignment, counts, centroids = cluster_one(codes, torch.tensor([1, 62]), 3, 6)
    assert assignment.tolist() == [0, 0, 1, 1, 0, 1, 1]
    assert counts.tolist() == [3, 4]
    assert centroids.tolist() == [0, 63]


def test_ties_give_the_lowest_index_and_bit_zero() -> None:
    # Both codes are one bit away from both centroids; their majority splits evenly on every bit.
    assignment, counts, centroids = cluster_one(torch.tensor([0b01, 0b10]), torch.tensor([0b11, 0b00]), 1, 2)
    assert centroids.tolist() == [0b00, 0b00]
    assert assignment.tolist() == [0, 0]
    assert counts.tolist() == [2, 0]


def test_an_empty_cluster_keeps_its_centroid() -> None:
    _, counts, centroids = cluster_one(torch.tensor([0, 0, 1]), torch.tensor([0, 0b1111]), 4, 4)
    assert counts.tolist() == [3, 0]
    assert centroids.tolist() == [0, 0b1111]


def test_ragged_sets_are_clustered_as_if_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    lengths, ks = [40, 7, 23], [5, 2, 3]
    codes = torch.randint(0, 2**20, (3, 40), generator=generator)
    centroids = torch.randint(0, 2**20, (3, 5), generator=generator)
    batched = hamming_kmeans(codes, torch.tensor(lengths), centroids, torch.tensor(ks), 4, 20)
    for g, (length, k) in enumerate(zip(lengths, ks, strict=True)):
        alone = cluster_one(codes[g, :length], centroids[g, :k], 4, 20)
        assert torch.equal(batched[0][g, :length], alone[0])
        assert (batched[0][g, length:] == -1).all()
        assert torch.equal(batched[1][g, :k], alone[1])
        assert torch.equal(batched[2][g, :k], alone[2])


def test_assignment_is_the_nearest_centroid_by_naive_count() -> None:
    generator = torch.Generator().manual_seed(5)
    codes = torch.randint(0, 2**40, (60,), generator=generator)
    assignment, _, centroids = cluster_one(codes, codes[:6], 3, 40)
    for code, chosen in zip(codes.tolist(), assignment.tolist(), strict=True):
        distances = [(code ^ centroid).bit_count() for centroid in centroids.tolist()]
        assert chosen == distances.index(min(distances))
