"""Votes of superpixels, and pseudo masks that lie where the image's content is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch

from masks.assign import centroid_scores, label_map, vote
from masks.features import FeatureMaps
from masks.prepared_images import PreparedImage
from masks.recipes.clusters import ClusterSegmenter
from model.frozen.extractors import Extractor


def test_vote_equals_naive_counting() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = rng.integers(0, 5, (13, 17))
        superpixels = rng.integers(0, 9, (13, 17))
        expected = np.zeros_like(labels)
        for superpixel in range(9):
            inside = superpixels == superpixel
            counts = [int((labels[inside] == label).sum()) for label in range(5)]
            expected[inside] = counts.index(max(counts))
        assert np.array_equal(vote(labels, superpixels, 5), expected)


def test_ties_go_to_the_lowest_id() -> None:
    labels = np.array([[3, 1, 2, 2, 0, 0]], dtype=np.uint8)
    superpixels = np.array([[0, 0, 1, 1, 1, 1]])
    voted = vote(labels, superpixels, 4)
    assert voted.tolist() == [[1, 1, 0, 0, 0, 0]]
    assert voted.dtype == np.uint8


def test_every_superpixel_votes_also_the_last() -> None:
    """The published loop stopped one short and left the last superpixel at 0."""
    superpixels = np.repeat(np.arange(4, dtype=np.int32), 5).reshape(4, 5)
    assert np.array_equal(vote(np.full((4, 5), 2), superpixels, 3), np.full((4, 5), 2))


def test_vote_of_255_ids_does_not_overflow() -> None:
    superpixels = np.arange(400, dtype=np.int32).reshape(20, 20)
    labels = np.full((20, 20), 254, dtype=np.uint8)
    assert np.array_equal(vote(labels, superpixels, 255), labels)


def test_vote_refuses_labels_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.2"):
        vote(np.full((2, 2), 3), np.zeros((2, 2), dtype=np.int32), 3)


def test_scores_rank_centroids_by_distance() -> None:
    rng = np.random.default_rng(0)
    features, centroids = rng.normal(size=(6, 3, 4)), rng.normal(size=(5, 6))
    distances = ((features[None] - centroids[:, :, None, None]) ** 2).sum(axis=1)
    assert np.array_equal(centroid_scores(features, centroids).argmax(axis=0), distances.argmin(axis=0))


def test_label_map_puts_the_corners_in_the_corners() -> None:
    scores = np.zeros((4, 2, 2), dtype=np.float32)
    scores[[0, 1, 2, 3], [0, 0, 1, 1], [0, 1, 0, 1]] = 1
    labels = label_map(scores, 9, 11)
    assert labels.dtype == np.uint8
    assert labels[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("shape", "size"), [((50, 15, 20), (375, 500)), ((3, 1, 4), (9, 7)), ((2, 5, 1), (4, 4))])
def test_label_map_is_the_best_of_the_enlarged_scores(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    scores = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    enlarged = torch.nn.functional.interpolate(
        torch.from_numpy(scores)[None], size=size, mode="bilinear", align_corners=True
    )[0]
    best, second = enlarged.topk(2, dim=0).values
    differs = label_map(scores, *size) != enlarged.argmax(dim=0).numpy()
    assert not differs[(best - second > 1e-5).numpy()].any()
    assert differs.mean() < 1e-3


def test_label_map_gives_ties_to_the_lowest_id() -> None:
    assert (label_map(np.ones((3, 2, 2), dtype=np.float32), 5, 5) == 0).all()


class _MeanColour(torch.nn.Module):
    """Features that are the mean colour of blocks of 32 pixels, and how dark they are."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        colours = torch.nn.functional.avg_pool2d(images, 32, ceil_mode=True)
        return torch.cat([colours, 0.2 - colours.mean(dim=1, keepdim=True)], dim=1)


@pytest.fixture
def mean_colour(pool: ThreadPoolExecutor) -> FeatureMaps:
    return FeatureMaps(Extractor(_MeanColour(), channels=4, stride=32, mean=(0.0,) * 3, std=(1.0,) * 3), pool)


# Directions of red, green and black (the padding) in the features of _MeanColour.
_CENTROIDS = np.array([[1, 0, 0, -0.13], [0, 1, 0, -0.13], [0, 0, 0, 1]], dtype=np.float32)


def _segment(features: FeatureMaps, image: np.ndarray, *, published: bool = False) -> np.ndarray:
    """The pseudo mask of an image whose every pixel is a superpixel, at 640 pixels."""
    scale = 640 / max(image.shape[:2])
    height, width = (round(side * scale) for side in image.shape[:2])
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    superpixels = np.arange(image.shape[0] * image.shape[1], dtype=np.int32).reshape(image.shape[:2])
    prepared = PreparedImage(0, (image.shape[0], image.shape[1]), image, resized, superpixels)
    segmenter = ClusterSegmenter(features, _CENTROIDS, size=640, published=published)
    return segmenter.segment(prepared, segmenter.extract([prepared])[0]).mask


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 375)])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
@pytest.mark.parametrize("axis", [0, 1])
def test_masks_lie_where_the_content_is(
    mean_colour: FeatureMaps, height: int, width: int, share: float, axis: int
) -> None:
    """The published code stretched the padded square over the image: a quarter got the padding's id."""
    image = np.full((height, width, 3), (255, 0, 0), dtype=np.uint8)
    split = round(share * image.shape[axis])
    np.moveaxis(image, axis, 0)[split:] = (0, 255, 0)
    labels = _segment(mean_colour, image)
    assert set(np.unique(labels)) == {0, 1}
    boundaries = (labels == 0).sum(axis=axis)
    # Half a position of the feature map, which has 20 along the longer side.
    assert np.abs(boundaries - split).max() <= 500 / 20 / 2


def test_published_masks_are_squeezed_and_leave_the_last_superpixel(mean_colour: FeatureMaps) -> None:
    image = np.full((375, 500, 3), (0, 255, 0), dtype=np.uint8)
    labels = _segment(mean_colour, image, published=True)
    assert 0.2 < (labels == 2).mean() < 0.3
    assert (labels[-80:-1] == 2).all()
    assert labels[-1, -1] == 0
