"""Feature maps of images of several shapes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from masks.features import FeatureMaps, _of_one_shape, squares, unit_length
from masks.prepared_images import thread_pool
from model.frozen.extractors import Extractor

_EXTRACTOR = Extractor(torch.nn.AvgPool2d(16), channels=3, stride=16, mean=(0.0,) * 3, std=(1.0,) * 3)


def test_every_image_keeps_its_own_features(pool: ThreadPoolExecutor) -> None:
    images = [
        np.full((32, 48, 3), 50, np.uint8),
        np.full((48, 32, 3), 100, np.uint8),
        np.full((32, 48, 3), 150, np.uint8),
    ]
    features = FeatureMaps(_EXTRACTOR, pool)
    assert [maps.shape for maps in features(images)] == [(3, 2, 3), (3, 3, 2), (3, 2, 3)]
    assert [maps.max() for maps in features(images)] == pytest.approx([50 / 255, 100 / 255, 150 / 255], rel=1e-4)
    assert [maps.max() for maps in features(images, scale=255)] == pytest.approx([50, 100, 150], rel=1e-4)


def test_threads_change_no_bit() -> None:
    """What a thread computes does not depend on how many there are: each uses one core."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(64, 300, 3, 2, 1))
    extractor = Extractor(network, channels=300, stride=4, mean=(0.5,) * 3, std=(0.5,) * 3)
    images = list(np.random.default_rng(0).integers(0, 256, (6, 96, 128, 3), dtype=np.uint8))
    with thread_pool(1) as one, thread_pool(3) as three:
        for first, second in zip(
            FeatureMaps(extractor, one)(images), FeatureMaps(extractor, three)(images), strict=True
        ):
            assert np.array_equal(first, second)


def test_batches_for_a_gpu_hold_one_shape() -> None:
    images = [np.zeros((4, 6 if place % 3 else 8, 3), dtype=np.uint8) for place in range(14)]
    assert _of_one_shape(images) == [[0, 3, 6, 9, 12], [1, 2, 4, 5, 7, 8, 10, 11], [13]]


def test_unit_length_leaves_zeros() -> None:
    features = np.array([[[3.0, 0.0]], [[4.0, 0.0]]])
    assert unit_length(features).tolist() == [[[0.6, 0.0]], [[0.8, 0.0]]]


def test_squares_are_padded_below_and_right() -> None:
    (square,) = squares([np.full((2, 3, 3), 7, dtype=np.uint8)], 4)
    assert square[..., 0].tolist() == [[7, 7, 7, 0], [7, 7, 7, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.gpu
def test_a_gpu_agrees_and_batches_change_no_bit(pool: ThreadPoolExecutor) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(64, 300, 3, 2, 1))
    images = list(np.random.default_rng(0).integers(0, 256, (6, 96, 128, 3), dtype=np.uint8))
    extractor = Extractor(network, channels=300, stride=4, mean=(0.5,) * 3, std=(0.5,) * 3)
    expected = FeatureMaps(extractor, pool)(images)
    maps = FeatureMaps(extractor.cuda(), pool)(images)
    assert all(np.abs(one - other).max() < 0.05 for one, other in zip(maps, expected, strict=True))  # bfloat16
    alone = [FeatureMaps(extractor, pool)([image])[0] for image in images]
    assert all(np.array_equal(one, other) for one, other in zip(maps, alone, strict=True))
