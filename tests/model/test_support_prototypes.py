"""Prototypes against golden values, and the rules for masks without one of the two sides."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from model.clusterutils import hamming_kmeans, lsh_hash
from model.hamming_clustering import one_by_one
from model.support_prototypes import prototypes, with_both_sides
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

    members = torch.stack([values["objects"], ~values["objects"]], dim=1) & ~values["padding"][:, None]
    rows, absent = prototypes(features, members, (20, 50), one_by_one(published_cluster))
    # The published code packs the rows that are present; here object and background keep their slots.
    for b in range(3):
        present = values["absent"][b] == 0
        assert torch.equal(absent[b].sum(), (~present).sum()) and not rows[b, absent[b]].any()
        assert golden.relative_error(rows[b, ~absent[b], ::4], values["prototypes_every_4th"][b, present]) < 1e-5


def test_objects_have_the_first_slots_and_small_sets_are_their_own_prototypes() -> None:
    pixels = torch.arange(12.0).view(1, 6, 2)
    objects = torch.tensor([False, True, False, True, False, True])
    background = torch.tensor([True, False, True, False, False, False])
    members = torch.stack([objects, background])[None]

    def into_two(features: Tensor, members: Tensor, ks: Sequence[int]) -> Tensor:
        """The first pixel of a set alone, the others together; the last cluster has no member."""
        return torch.where(members, (members.cumsum(-1) > 1).long(), -1)

    rows, absent = prototypes(pixels, members, (4, 1), into_two)
    assert torch.equal(rows[0, :3], pixels[0, [1, 3, 5]]) and not rows[0, 3].any()
    assert absent.tolist() == [[False, False, False, True, False]]
    # Two background pixels for one slot are clustered: the sum of the members over their number and 0.001.
    assert torch.allclose(rows[0, 4], pixels[0, 0] / 1.001)
    rows, absent = prototypes(pixels, members, (2, 2), into_two)
    clusters = torch.stack([pixels[0, 1] / 1.001, (pixels[0, 3] + pixels[0, 5]) / 2.001])
    assert torch.allclose(rows[0, :2], clusters) and torch.equal(rows[0, 2:], pixels[0, [0, 2]])
    assert not absent.any()


def test_a_mask_without_object_gets_the_centre_and_a_full_one_loses_its_corners() -> None:
    objects = torch.stack([torch.zeros(6, 8), torch.ones(6, 8), torch.eye(8)[:6]]).bool()
    mended, background = with_both_sides(objects, torch.zeros_like(objects))
    assert mended[0].nonzero().tolist() == [[2, 3], [2, 4], [3, 3], [3, 4]]
    assert (~mended[1]).nonzero().tolist() == [[0, 0], [0, 7], [5, 0], [5, 7]]
    assert torch.equal(mended[2], objects[2]) and torch.equal(background, ~mended)


def test_void_is_on_neither_side_unless_nothing_else_is_left_for_one() -> None:
    objects, void = torch.zeros(2, 3, 6, 8, dtype=torch.bool)
    objects[:2, 1:4], void[0, 4] = True, True
    void[1] = ~objects[1]  # no background
    void[2] = True  # nothing at all
    mended, background = with_both_sides(objects, void)
    assert torch.equal(mended[:2], objects[:2])
    assert torch.equal(background[0], ~objects[0] & ~void[0])
    corners = [[0, 0], [0, 7], [5, 0], [5, 7]]
    assert background[1].nonzero().tolist() == background[2].nonzero().tolist() == corners
    assert mended[2].nonzero().tolist() == [[2, 3], [2, 4], [3, 3], [3, 4]]
