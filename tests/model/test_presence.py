"""The similarity of a query to the supports' object against a loop over positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from model.presence import presence_similarity
from tests.model.networks import random_episode, tiny_backbone


def test_it_is_the_mean_over_the_most_similar_tenth_of_the_positions() -> None:
    backbone, (query, supports, masks) = tiny_backbone(), random_episode(shots=2)
    query_padding, support_padding = torch.zeros(2, 65, 65).bool(), torch.zeros(2, 2, 65, 65).bool()
    query_padding[0, 33:] = True
    support_padding[1, 0, :, 33:] = True
    similarities = presence_similarity(backbone, query, supports, masks, query_padding, support_padding)
    for b in range(2):
        objects = []
        for image, mask, padding in zip(supports[b], masks[b], support_padding[b], strict=True):
            features = F.normalize(backbone(image[None])[1][0], dim=0)
            # Positions of features are every eighth pixel; padding takes pixel floor(i * 65 / 9).
            nearest = torch.arange(9) * 65 // 9
            inside = (mask[::8, ::8] == 1) & ~padding[nearest[:, None], nearest]
            objects.append(features[:, inside].mean(dim=1))
        prototype = torch.stack(objects).mean(dim=0)
        features = backbone(query[b][None])[1][0]
        nearest = torch.arange(9) * 65 // 9
        counted = ~query_padding[b][nearest[:, None], nearest]
        cosines = F.cosine_similarity(features[:, counted], prototype[:, None], dim=0)
        expected = cosines.sort(descending=True).values[: int(0.1 * len(cosines))].mean()
        torch.testing.assert_close(similarities[b], expected, rtol=1e-3, atol=1e-4)


def test_an_object_between_the_positions_is_stood_for_by_its_image() -> None:
    backbone, (query, supports, masks) = tiny_backbone(), random_episode()
    nothing = torch.zeros(2, 65, 65).bool()
    masks.zero_()
    masks[:, :, 3:5, 3:5] = 1
    small = presence_similarity(backbone, query, supports, masks, nothing, nothing[:, None])
    masks.fill_(1)
    whole = presence_similarity(backbone, query, supports, masks, nothing, nothing[:, None])
    torch.testing.assert_close(small, whole)
