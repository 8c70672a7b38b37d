"""The recipe for single photographs: principal components, two clusters, three where two leave nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from masks.features import FeatureMaps
from masks.image_clusters import ImageClusters, kmeans, principal_components
from masks.photographs import Photograph
from masks.regions import RegionFilter
from model.extractors import Extractor


def test_principal_components_are_ordered_and_uncorrelated() -> None:
    features = np.random.default_rng(0).normal(size=(20, 6, 7)).astype(np.float32)
    features[3] *= 10
    components = principal_components(features, 4).reshape(4, -1)
    covariance = components @ components.T
    assert np.all(np.diff(np.diag(covariance)) <= 0)
    assert np.allclose(covariance, np.diag(np.diag(covariance)), atol=1e-3)
    assert np.abs(np.corrcoef(components[0], features[3].ravel())[0, 1]) > 0.9


def test_components_do_not_depend_on_what_all_positions_share() -> None:
    """Features are centred before they are brought to unit length."""
    features = np.random.default_rng(0).normal(size=(20, 6, 7)).astype(np.float32)
    shifted = features + np.linspace(-5, 5, 20, dtype=np.float32)[:, None, None]
    assert np.allclose(np.abs(principal_components(features, 3)), np.abs(principal_components(shifted, 3)), atol=1e-3)


def test_kmeans_finds_separate_clusters_and_is_deterministic() -> None:
    rng = np.random.default_rng(3)
    centres = np.array([[0, 0], [20, 0]])
    features = (centres[rng.integers(0, 2, 300)] + rng.normal(size=(300, 2))).astype(np.float32)
    centroids = kmeans(features, 2, seed=1534)
    assert np.allclose(centroids[centroids[:, 0].argsort()], centres, atol=0.3)
    assert np.array_equal(centroids, kmeans(features, 2, seed=1534))


class _Colours(torch.nn.Module):
    """Sixteen features made of the colours at stride 8."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images, 8).repeat(1, 6, 1, 1)[:, :16]


@pytest.fixture
def colours(pool: ThreadPoolExecutor) -> FeatureMaps:
    return FeatureMaps(Extractor(_Colours(), channels=16, stride=8, mean=(0.0,) * 3, std=(1.0,) * 3), pool)


def _segment(features: FeatureMaps, image: np.ndarray) -> np.ndarray:
    superpixels = np.arange(image.shape[0] * image.shape[1], dtype=np.int32).reshape(image.shape[:2])
    recipe = ImageClusters(features, objects=RegionFilter(min_area=400, rule="border"), seed=1534)
    photograph = Photograph(0, (image.shape[0], image.shape[1]), image, image, superpixels)
    return recipe.segment(photograph, recipe.extract([photograph])[0]).labels


def test_an_object_before_a_background_is_one_of_two_clusters(colours: FeatureMaps) -> None:
    image = np.full((96, 128, 3), (40, 160, 40), dtype=np.uint8)
    image[32:64, 40:88] = (200, 30, 30)
    labels = _segment(colours, image)
    assert set(np.unique(labels)) == {0, 1}
    inside = labels[48, 64]
    assert (labels[36:60, 46:82] == inside).all()
    assert (labels[:24] != inside).all()


def test_a_third_cluster_is_tried_when_two_leave_no_region(colours: FeatureMaps) -> None:
    """Sky and ground fill the border; the object between them appears with three clusters."""
    image = np.full((96, 128, 3), (30, 30, 220), dtype=np.uint8)
    image[48:] = (30, 200, 30)
    image[32:64, 48:80] = (120, 200, 60)
    labels = _segment(colours, image)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert labels[0, 0] != labels[56, 64] != labels[-1, 0]
