"""The similarity of a query to the supports' object against a loop over positions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.frozen.backbone import build_backbone
from model.presence import folder_threshold, presence_similarity
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


def test_class_scores_compare_the_object_seen_closely_with_the_whole_query() -> None:
    """An object of 20 x 12 pixels: the square of 32 around it, shifted into the content, against the query enlarged."""
    torch.manual_seed(0)
    backbone = build_backbone("mobilenetv2_035", weights=None, normalize="imagenet", mid_stages=[-2], class_scores=True)
    head = backbone.class_head
    assert head is not None
    query, supports, masks = random_episode(batch=1)
    masks.zero_()
    masks[0, 0, 4:24, 40:52] = 1
    query_padding, support_padding = torch.zeros(1, 65, 65).bool(), torch.zeros(1, 1, 65, 65).bool()
    query_padding[0, 48:] = True
    support_padding[0, 0, :, 56:] = True
    similarity = presence_similarity(backbone, query, supports, masks, query_padding, support_padding)
    # The square would be columns 30 to 62, but ends with the content at 56; its first row would be -2.
    crop = F.interpolate(supports[0, :, :, :32, 24:56], (65, 65), mode="bilinear", align_corners=True)
    inside = F.interpolate((masks[:, :, :32, 24:56] == 1).float(), (9, 9), mode="bilinear", align_corners=True)
    support = head(backbone(crop)[1], inside[:, 0])
    enlarged = F.interpolate(query, (97, 97), mode="bilinear", align_corners=True)
    counted = F.interpolate((~query_padding)[:, None].float(), (13, 13), mode="bilinear", align_corners=True)
    expected = F.cosine_similarity(support, head(backbone(enlarged)[1], counted[:, 0]))
    torch.testing.assert_close(similarity, expected, rtol=1e-4, atol=1e-5)


def test_class_scores_of_a_support_without_object_are_those_of_all_of_it() -> None:
    backbone = build_backbone("mobilenetv2_035", weights=None, normalize="imagenet", mid_stages=[-2], class_scores=True)
    query, supports, masks = random_episode(batch=1, shots=2)
    nothing = torch.zeros(1, 65, 65).bool(), torch.zeros(1, 2, 65, 65).bool()
    similarities = [
        presence_similarity(backbone, query, supports, torch.full_like(masks, value), *nothing) for value in (0, 1)
    ]
    torch.testing.assert_close(*similarities)


def test_a_folder_s_threshold_is_relative_to_its_most_similar_images() -> None:
    similarities = [0.1, 0.8, 0.2, 0.9, 0.6, 0.7, 0.3, 0.5]
    assert folder_threshold(similarities, 0.2) == pytest.approx(0.85 * 0.7)
    assert folder_threshold(similarities, 0.65) == 0.65
    assert folder_threshold([0.4, 0.6], 0.1) == pytest.approx(0.85 * 0.5)
