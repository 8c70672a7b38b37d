"""Transforms against the published computation, and on sizes that are out of the ordinary."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from episodes.transforms import (
    Sample,
    TrainTransform,
    ValTransform,
    blur,
    content_size,
    crop,
    fit,
    flip,
    rotate,
    scale,
)

SCALES, ANGLES = (0.9, 1.1), (-10.0, 10.0)
BLACK = np.zeros(3, dtype=np.float32)
EXTREME_SIZES = [(5, 5), (1, 1), (2, 300), (300, 2), (64, 65), (97, 31)]


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    """Outputs of the published transforms (OpenCV 5.0); of images every third pixel is kept."""
    values: dict[str, Any] = torch.load(Path(__file__).parent.parent / "golden" / "transforms.pt", weights_only=True)
    return values


@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("fit", lambda sample, rng: fit(sample, 97, BLACK)),
        ("scale", lambda sample, rng: scale(sample, rng, SCALES)),
        ("rotate", lambda sample, rng: rotate(sample, rng, ANGLES, probability=1)),
        ("blur", blur),
        ("flip", lambda sample, rng: flip(sample, rng, probability=1)),
        ("crop_pad", lambda sample, rng: crop(sample, rng, 97, 97)),
        ("crop", lambda sample, rng: crop(sample, rng, 33, 33)),
    ],
)
def test_each_part_equals_the_published_one(
    golden: dict[str, Any], name: str, transform: Callable[[Sample, random.Random], Sample]
) -> None:
    expected = golden["cases"][name]
    image, label = golden["image"].numpy(), golden["label"].numpy()
    result = transform(Sample(image, label, np.zeros_like(label)), random.Random(expected["seed"]))
    np.testing.assert_allclose(result.image[::3, ::3], expected["image"].numpy(), atol=1e-3 * 255)
    np.testing.assert_array_equal(result.mask, expected["label"].numpy())
    np.testing.assert_array_equal(result.padding, expected["padding"].numpy())


def test_a_landscape_image_is_fitted_like_the_published_one(golden: dict[str, Any]) -> None:
    expected = golden["cases"]["fit_landscape"]
    image, label = (np.ascontiguousarray(golden[name].numpy().swapaxes(0, 1)) for name in ("image", "label"))
    result = fit(Sample(image, label, np.zeros_like(label)), 97, BLACK)
    np.testing.assert_allclose(result.image[::3, ::3], expected["image"].numpy(), atol=1e-3 * 255)
    np.testing.assert_array_equal(result.mask, expected["label"].numpy())


@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("train_chain", TrainTransform(height=65, width=65, scale_range=SCALES, rotate_range=ANGLES)),
        ("val_chain", ValTransform(size=97, published=True)),
    ],
)
def test_whole_chains_equal_the_published_ones(
    golden: dict[str, Any], name: str, transform: TrainTransform | ValTransform
) -> None:
    expected = golden["cases"][name]
    view = transform(golden["image"].numpy(), golden["label"].numpy(), rng=random.Random(expected["seed"]))
    np.testing.assert_allclose(view.image[:, ::3, ::3], expected["image"], atol=1e-3)
    assert torch.equal(view.mask, expected["label"].long())
    assert torch.equal(view.padding, expected["padding"] == 255)


def test_padding_is_true_outside_zero_in_the_image_and_ignored_in_the_label() -> None:
    image, label = np.full((20, 30, 3), 200, dtype=np.uint8), np.ones((20, 30), dtype=np.uint8)
    train = TrainTransform(height=41, width=41, scale_range=(1.0, 1.0), rotate_range=(0.0, 0.0))
    for view in (train(image, label, random.Random(0)), ValTransform(size=41)(image, label)):
        assert view.image.shape == (3, 41, 41)
        assert view.padding.any() and not view.padding.all()
        assert (view.image[:, view.padding] == 0).all() and (view.image[:, ~view.padding] != 0).all()
        assert (view.mask[view.padding] == 255).all() and (view.mask[~view.padding] == 1).all()


def test_padding_passed_in_is_kept() -> None:
    label = np.zeros((40, 40), dtype=np.uint8)
    padding = label.copy()
    padding[:, 20:] = 255
    view = ValTransform(size=41)(np.zeros((40, 40, 3), dtype=np.uint8), label, padding)
    assert view.padding[:40, 20:40].all() and not view.padding[:40, :20].any()


def test_published_validation_pads_with_black() -> None:
    image, label = np.full((20, 40, 3), 200, dtype=np.uint8), np.zeros((20, 40), dtype=np.uint8)
    corner = ValTransform(size=41, published=True)(image, label).image[:, -1, -1]
    np.testing.assert_allclose(corner, [-2.1179, -2.0357, -1.8044], atol=1e-4)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((375, 500), (352, 472)), ((500, 375), (472, 352)), ((10, 1000), (8, 472)), ((3, 3), (472, 472))],
)
def test_content_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert content_size(*size, 473) == expected


@pytest.mark.parametrize("size", EXTREME_SIZES)
def test_extreme_sizes_give_whole_views(size: tuple[int, int]) -> None:
    image, label = np.full((*size, 3), 90, dtype=np.uint8), np.ones(size, dtype=np.uint8)
    train = TrainTransform(height=49, width=33, scale_range=(0.3, 1.25), rotate_range=ANGLES)
    for seed in range(8):
        view = train(image, label, random.Random(seed))
        assert view.image.shape == (3, 49, 33) and view.mask.shape == view.padding.shape == (49, 33)
        assert torch.isfinite(view.image).all()
    assert (ValTransform(size=49)(image, label).mask == 1).any()


def test_the_crop_keeps_the_object_when_a_window_can() -> None:
    label = np.zeros((200, 200), dtype=np.uint8)
    label[20:60, 140:180] = 1
    sample = Sample(np.zeros((200, 200, 3), dtype=np.float32), label, np.zeros_like(label))
    kept = [np.count_nonzero(crop(sample, random.Random(seed), 141, 141).mask) for seed in range(40)]
    assert min(kept) >= 0.85 * 1600


@pytest.mark.parametrize("side", [30, 100, 400])
def test_objects_are_as_large_in_training_as_in_the_test(side: int) -> None:
    """Cutting 257 pixels from images of 375 made objects 1.46 times larger than in the test."""
    label = np.zeros((side, side), dtype=np.uint8)
    label[side // 4 : side // 2, side // 4 : side // 2] = 1
    image = np.zeros((side, side, 3), dtype=np.uint8)
    train = TrainTransform(height=97, width=97, scale_range=(1.0, 1.0), rotate_range=(0.0, 0.0), longer_side=97)
    areas = [
        int((view.mask == 1).sum())
        for view in (train(image, label, random.Random(0)), ValTransform(size=97)(image, label))
    ]
    assert areas[0] == pytest.approx(areas[1], rel=0.1)


def test_the_last_crop_stays_when_no_window_holds_the_object() -> None:
    label = np.zeros((60, 200), dtype=np.uint8)
    label[:, ::20] = 1
    sample = Sample(np.zeros((60, 200, 3), dtype=np.float32), label, np.zeros_like(label))
    assert crop(sample, random.Random(0), 41, 41).mask.shape == (41, 41)


def test_inputs_are_left_as_they_were() -> None:
    image, label = np.full((40, 60, 3), 90, dtype=np.uint8), np.ones((40, 60), dtype=np.uint8)
    before = image.copy(), label.copy()
    TrainTransform(height=33, width=33, scale_range=SCALES, rotate_range=ANGLES)(image, label, random.Random(3))
    ValTransform(size=33)(image, label)
    assert (image == before[0]).all() and (label == before[1]).all()
