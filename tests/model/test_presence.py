"""The similarity of a query to the supports' object against a loop over positions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.frozen.backbone import build_backbone
from model.presence import presence_in_folder
from model.presence import similarities as similarities_to
from tests.model.networks import presence_similarity, random_episode, tiny_backbone


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


def _unit(*angles: float) -> torch.Tensor:
    """(len(angles), 2): directions in degrees."""
    radians = torch.deg2rad(torch.tensor(angles))
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def naive_in_folder(objects: np.ndarray, images: np.ndarray, counted: np.ndarray, number: int) -> np.ndarray:
    """Similarities (C, N), one by one, from descriptions (C, D) and (N, D)."""

    def cosine(one: np.ndarray, other: np.ndarray) -> float:
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    def similar(one: np.ndarray, all_images: np.ndarray, among: np.ndarray) -> list[float]:
        direct = [cosine(one, image) for image in all_images]
        highest = sorted(np.flatnonzero(among), key=lambda image: -direct[image])[:number]
        found = []
        for image, own in enumerate(direct):
            others = [cosine(all_images[image], all_images[other]) for other in highest if other != image]
            found.append((own + np.mean(others)) / 2 if others else own)
        return found

    objects, images = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (objects, images))
    mean = images.mean(axis=0)
    variances, axes = np.linalg.eigh((images - mean).T @ (images - mean))
    deviations = np.sqrt(variances.clip(min=0))
    used = deviations > deviations.max() / 4
    in_directions = axes[:, used] / np.sqrt(deviations[used])
    return np.array(
        [
            np.array(similar(one, images, among)) / 2
            + np.array(similar((one - mean) @ in_directions, (images - mean) @ in_directions, among)) / 2
            for one, among in zip(objects, counted, strict=True)
        ]
    )


@pytest.mark.parametrize(("images", "resembled", "number"), [(7, 1, 1), (130, 3, 2), (1100, 20, 10)])
def test_in_a_folder_images_count_that_resemble_others_and_what_they_differ_in(
    images: int, resembled: int, number: int
) -> None:
    """Two classes; the first image is a support of the first class."""
    random = np.random.default_rng(0)
    stretched = np.array([5.0, 3, 1, 0.5, 0.1, 0.1])
    objects, queries = random.random((2, 6)), random.random((images, 6)) * stretched
    counted = np.ones((2, images), dtype=bool)
    counted[0, 0] = False
    values, thresholds = presence_in_folder(
        torch.from_numpy(objects), list(torch.from_numpy(queries)[:, None]), torch.from_numpy(counted), threshold=0.5
    )
    expected = naive_in_folder(objects, queries, counted, resembled)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    highest = [np.sort(row[among])[-number:].mean() for row, among in zip(expected, counted, strict=True)]
    np.testing.assert_allclose(thresholds, 0.7 * np.array(highest), atol=1e-6)


def test_images_that_are_all_alike_have_no_directions() -> None:
    objects, counted = _unit(0, 30), torch.ones(2, 3, dtype=torch.bool)
    values = presence_in_folder(objects, [_unit(10)] * 3, counted, threshold=None).similarities
    for row, angle in zip(values, (10, 20), strict=True):
        expected = (math.cos(math.radians(angle)) + 1) / 2
        torch.testing.assert_close(row[1:], torch.full((2,), expected))


def test_a_class_that_no_image_of_a_folder_is_like_is_in_none() -> None:
    objects, queries, counted = _unit(0, 90), list(_unit(10, 20)[:, None]), torch.ones(2, 2, dtype=torch.bool)
    similarities, thresholds = presence_in_folder(objects, queries, counted, threshold=0.5)
    assert similarities[0, 0] > thresholds[0]
    # Nothing is similar enough: even the most similar image falls short by what it falls short of 0.5 alone.
    assert float(thresholds[1] - similarities[1].max()) == pytest.approx(0.5 - math.sin(math.radians(20)))
    assert (presence_in_folder(objects, queries, counted, threshold=None).thresholds == -math.inf).all()
    # A single image resembles no other; without a class head images have many vectors, and none is compared.
    alone = presence_in_folder(objects, queries[:1], counted[:, :1], threshold=0.5).similarities
    torch.testing.assert_close(alone, similarities_to(objects, queries[0])[:, None])
    many = [_unit(10, 20), _unit(30)]
    direct = torch.stack([similarities_to(objects, query) for query in many], dim=1)
    torch.testing.assert_close(presence_in_folder(objects, many, counted, threshold=0.5).similarities, direct)
