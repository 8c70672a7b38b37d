"""Hashing and Hamming k-means against golden values, naive loops and clusters whose answer is known."""

import pytest
import torch
from torch import Tensor

from model.clusterutils import _DEVICES, hamming_kmeans, lsh_hash, reference
from tests import golden

needs_native = pytest.mark.skipif(not _DEVICES, reason="the native operators are not built")


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


@needs_native
@pytest.mark.parametrize("bits", [1, 10, 32, 33, 63])
@pytest.mark.parametrize("iterations", [0, 1, 10])
def test_native_and_reference_agree_in_every_bit(bits: int, iterations: int) -> None:
    sets = random_sets(bits)
    ours, plain = (function(*sets, iterations, bits) for function in (hamming_kmeans, reference.hamming_kmeans))
    assert all(
        torch.equal(first, second) and first.dtype == second.dtype for first, second in zip(ours, plain, strict=True)
    )


@needs_native
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_native_and_reference_hash_alike(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    points = torch.randn(5000, 7, generator=generator).to(dtype)
    for bits in (1, 32, 63):
        planes = torch.randn(bits, 8, generator=generator).to(dtype)
        codes = lsh_hash(points, planes)
        assert torch.equal(codes, reference.lsh_hash(points, planes))
        assert codes.bitwise_right_shift(bits).eq(0).all()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(lsh_hash(points, planes), codes)
            assert torch.equal(reference.lsh_hash(points, planes), codes)
    assert lsh_hash(points[:0], planes).shape == (0,)
    assert torch.equal(lsh_hash(points.T.contiguous().T, planes), codes)


def test_bits_beyond_those_asked_for_play_no_part() -> None:
    codes, lengths, centroids, ks = random_sets(20)
    noise = torch.randint(0, 2**30, (), generator=torch.Generator().manual_seed(1)) << 20
    expected = hamming_kmeans(codes, lengths, centroids, ks, 3, 20)
    noisy = hamming_kmeans(codes | noise, lengths, centroids | noise, ks, 3, 20)
    assert all(torch.equal(first, second) for first, second in zip(noisy, expected, strict=True))


def test_no_sets() -> None:
    nothing = torch.zeros(0, 4, dtype=torch.int64)
    results = hamming_kmeans(nothing, nothing[:, 0], nothing, nothing[:, 0], 3, 32)
    assert [tuple(result.shape) for result in results] == [(0, 4)] * 3


def test_each_wrong_argument_has_its_own_message() -> None:
    points, planes = torch.randn(5, 3), torch.randn(8, 4)
    for kind, message, arguments in (
        (ValueError, r"x: expected \(N, C\), got \(5,\)", (points[:, 0], planes)),
        (ValueError, r"planes: expected \(bits, 4\), got \(8, 3\)", (points, planes[:, :3])),
        (ValueError, "planes: expected at most 63, got 64", (points, torch.randn(64, 4))),
        (TypeError, "x: expected floating point numbers, got torch.int64", (points.long(), planes)),
        (TypeError, "planes: expected torch.float32 like x, got torch.float64", (points, planes.double())),
        (ValueError, "planes: expected them on cpu like x, got meta", (points, planes.to("meta"))),
    ):
        with pytest.raises(kind, match=message):
            lsh_hash(*arguments)
    codes, lengths, centroids, ks = random_sets(20)
    for kind, message, sets, numbers in (
        (ValueError, r"codes: expected \(G, L\)", (codes[0], lengths, centroids, ks), (3, 20)),
        (ValueError, r"centroids: expected \(5, K\), got \(4, 6\)", (codes, lengths, centroids[1:], ks), (3, 20)),
        (ValueError, r"ks: expected \(5,\), got \(4,\)", (codes, lengths, centroids, ks[1:]), (3, 20)),
        (TypeError, "lengths: expected int64, got torch.int32", (codes, lengths.int(), centroids, ks), (3, 20)),
        (ValueError, "centroids: expected it on cpu like codes", (codes, lengths, centroids.to("meta"), ks), (3, 20)),
        (ValueError, "bits: expected 1 to 63, got 64", (codes, lengths, centroids, ks), (3, 64)),
        (ValueError, "iterations: expected 0 or more, got -1", (codes, lengths, centroids, ks), (-1, 20)),
    ):
        with pytest.raises(kind, match=message):
            hamming_kmeans(*sets, *numbers)


@needs_native
def test_lengths_and_ks_that_leave_the_tensors_are_refused_natively() -> None:
    codes, lengths, centroids, ks = random_sets(20)
    with pytest.raises(RuntimeError, match="lengths must be 0 to 40"):
        hamming_kmeans(codes, lengths + 40, centroids, ks, 3, 20)
    with pytest.raises(RuntimeError, match="ks must be 1 to 6"):
        hamming_kmeans(codes, lengths, centroids, ks + 6, 3, 20)


@needs_native
def test_compiling_and_exporting_see_one_operator() -> None:
    sets = random_sets(32)
    torch.library.opcheck(torch.ops.unsupfss.hamming_kmeans.default, (*sets, 3, 32))
    torch.library.opcheck(torch.ops.unsupfss.lsh_hash.default, (torch.randn(5, 3), torch.randn(8, 4)))
    compiled = torch.compile(hamming_kmeans, backend="aot_eager", fullgraph=True)(*sets, 3, 32)
    assert torch.equal(compiled[0], hamming_kmeans(*sets, 3, 32)[0])


@pytest.mark.gpu
@pytest.mark.parametrize("bits", [1, 10, 32, 33, 63])
def test_a_gpu_agrees_with_the_cpu_in_every_bit(bits: int) -> None:
    if "cuda" not in _DEVICES:
        pytest.skip("the operators are not built for CUDA")
    sets = random_sets(bits)
    codes, lengths, centroids, ks = (tensor.cuda() for tensor in sets)
    on_gpu = hamming_kmeans(codes, lengths, centroids, ks, 10, bits)
    for ours, cpu in zip(on_gpu, hamming_kmeans(*sets, 10, bits), strict=True):
        assert torch.equal(ours.cpu(), cpu)
    points = torch.randint(-9, 9, (5000, 7), generator=torch.Generator().manual_seed(2)).float()  # exact products
    planes = torch.randint(-9, 9, (bits, 8), generator=torch.Generator().manual_seed(3)).float()
    assert torch.equal(lsh_hash(points.cuda(), planes.cuda()).cpu(), lsh_hash(points, planes))


def random_sets(bits: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Five sets of 40, 0, 1, 23 and 40 codes with equal ones and ties among them, and 5, 2, 6, 1 and 6 centroids."""
    generator = torch.Generator().manual_seed(bits)
    codes = torch.randint(0, 2**bits - 1, (5, 40), generator=generator)
    codes[0, 20:] = codes[0, :20]
    codes[4] = 2**bits - 1
    centroids = torch.randint(0, 2**bits - 1, (5, 6), generator=generator)
    centroids[3, 1] = centroids[3, 0]
    return codes, torch.tensor([40, 0, 1, 23, 40]), centroids, torch.tensor([5, 2, 6, 1, 6])
