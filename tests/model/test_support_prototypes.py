"""Prototypes against golden values, and the rules for masks without one of the two sides."""

from collections.abc import Iterator

import torch
from torch import Tensor

from model.clusterutils import hamming_kmeans, lsh_hash
from model.hamming_clustering import one_by_one
from model.support_prototypes import _prototypes, with_both_sides
from tests import golden


def test_prototypes_match_golden() -> None:
    values = golden.load("support_prototypes")
    features = torch.randn(3, 256, 256, generator=torch.Generator().manual_seed(110)).relu()
    calls: Iterator[dict[str, Tensor]] = iter(values["calls"])

    def published_cluster(features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        call = next(calls)
        codes = lsh_hash(features, values["planes"])
        first = codes[call["init_index"]]
        assignment, counts, _ = hamming_kmeans(
            codes[None], torch.tensor([len(codes)]), first[None], torch.tensor([k]), 9, 32
        )
        assert torch.equal(assignment[0], call["assignment"])
        return assignment[0].long(), counts[0].long()

    rows, absent = _prototypes(features, values["objects"], ~values["padding"], one_by_one(published_cluster))
    assert torch.equal(absent.float(), values["absent"])
    for b in range(3):
        assert golden.relative_error(rows[b, :, ::4], values["prototypes_every_4th"][b]) < 1e-5


def test_a_mask_without_object_gets_the_centre_and_a_full_one_loses_its_corners() -> None:
    masks = torch.stack([torch.zeros(6, 8), torch.ones(6, 8), torch.eye(8)[:6]]).bool()
    mended = with_both_sides(masks)
    assert mended[0].nonzero().tolist() == [[2, 3], [2, 4], [3, 3], [3, 4]]
    assert (~mended[1]).nonzero().tolist() == [[0, 0], [0, 7], [5, 0], [5, 7]]
    assert torch.equal(mended[2], masks[2])
