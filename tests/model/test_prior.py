"""The prior against golden values and a naive loop."""

import torch
import torch.nn.functional as F

from model.prior import prior
from tests import golden


def test_matches_golden() -> None:
    values = golden.load("prior")
    query = torch.randn(2, 2048, 13, 13, generator=torch.Generator().manual_seed(60)).relu()
    support = torch.randn(2, 1, 2048, 13, 13, generator=torch.Generator().manual_seed(61)).relu()
    mask = (values["support_mask"] == 1).float()
    mask = F.interpolate(mask, (13, 13), mode="bilinear", align_corners=True)
    assert golden.relative_error(prior(query, support, mask), values["prior"]) < 1e-4


def test_without_an_object_nothing_looks_like_it() -> None:
    torch.manual_seed(0)
    query, support = torch.randn(1, 6, 3, 4), torch.randn(1, 1, 6, 3, 4)
    assert not prior(query, support, torch.zeros(1, 1, 3, 4)).any()


def test_positions_outside_the_object_count_as_different() -> None:
    query = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.6, 0.8]]).T.view(1, 2, 1, 3)
    support = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).T.view(1, 1, 2, 1, 2)
    mask = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(prior(query, support, mask).flatten(), torch.tensor([1.0, 0.0, 0.6]))


def test_a_support_may_have_another_size_than_the_query() -> None:
    torch.manual_seed(0)
    query, support, mask = torch.randn(2, 6, 3, 4), torch.randn(2, 2, 6, 5, 2), torch.rand(2, 2, 5, 2)
    assert prior(query, support, mask).shape == (2, 1, 3, 4)


def test_two_shots_are_averaged_after_scaling() -> None:
    torch.manual_seed(0)
    query, support, mask = torch.randn(1, 6, 3, 4), torch.randn(1, 2, 6, 3, 4), torch.rand(1, 2, 3, 4)
    expected = torch.zeros(3, 4)
    for shot in range(2):
        keys = (support[0, shot] * mask[0, shot]).flatten(1).T
        best = torch.stack([F.cosine_similarity(pixel[None], keys).max() for pixel in query[0].flatten(1).T])
        expected += ((best - best.min()) / (best.max() - best.min())).view(3, 4) / 2
    torch.testing.assert_close(prior(query, support, mask)[0, 0], expected, atol=1e-4, rtol=1e-4)
