"""Refined predictions: against naive loops, on images whose borders are known, for every size."""

from __future__ import annotations

import numpy as np
import pytest

from masks.superpixels import felzenszwalb, refinement
from masks.superpixels.refinement import refined


def two_colours(height: int, width: int, border: int) -> np.ndarray:
    """Red left of column ``border``, blue from there on."""
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:, :border], image[:, border:] = (200, 30, 30), (30, 30, 200)
    return image


def test_a_prediction_that_misses_the_border_is_moved_to_it() -> None:
    difference = np.full((120, 160), -2.0)
    difference[:, :70] = 2  # the object ends at column 80
    probability = refined(difference, two_colours(120, 160, 80))
    assert probability.dtype == np.float32 and probability.shape == (120, 160)
    assert (probability[:, :80] > 0.5).all() and (probability[:, 80:] < 0.5).all()


@pytest.mark.parametrize(("height", "width"), [(900, 1200), (1, 700), (385, 2)])
def test_large_images_are_refined_reduced_and_keep_their_size(height: int, width: int) -> None:
    border = width // 2
    difference = np.full((height, width), -3.0)
    difference[:, :border] = 3
    probability = refined(difference, two_colours(height, width, border))
    assert probability.shape == (height, width) and 0 <= probability.min() and probability.max() <= 1
    assert ((probability > 0.5) == (difference > 0)).mean() > 0.97


def test_the_superpixels_vote_with_clipped_logits() -> None:
    """Before the guided filter: the mean over the sizes of the means over superpixels."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
    difference = rng.normal(0, 6, (40, 50))
    expected = np.zeros((40, 50))
    for scale in (25, 50, 100, 200, 400):
        superpixels = felzenszwalb(image, scale, 0.8, scale)
        for number in range(superpixels.max() + 1):
            inside = superpixels == number
            expected[inside] += difference[inside].clip(-5, 5).mean() / 5
    votes = 1 / (1 + np.exp(-expected))
    guided = np.clip(refinement._guided(votes.astype(np.float32), image.astype(np.float32) / 255), 0, 1)
    np.testing.assert_allclose(refined(difference, image), guided, atol=1e-4)


def test_the_guided_filter_fits_an_affine_function_of_the_colours_in_every_window() -> None:
    """Least squares with the published regulariser, window by window, on an image mirrored at its border."""
    rng = np.random.default_rng(1)
    guide, values = rng.random((5, 6, 3)).astype(np.float32), rng.random((5, 6)).astype(np.float32)
    reach, count = refinement._RADIUS, (2 * refinement._RADIUS + 1) ** 2

    def windows(array: np.ndarray) -> np.ndarray:
        """Of every pixel, (5, 6, window, channels)."""
        padding = ((reach, reach), (reach, reach), (0, 0))
        padded = np.pad(array.reshape(5, 6, -1), padding, mode="symmetric")
        return np.array(
            [
                [padded[y : y + 2 * reach + 1, x : x + 2 * reach + 1].reshape(count, -1) for x in range(6)]
                for y in range(5)
            ]
        )

    coefficients = np.empty((5, 6, 4))
    for (y, x), colours in zip(np.ndindex(5, 6), windows(guide).reshape(30, count, 3), strict=True):
        targets = windows(values)[y, x, :, 0]
        centred = colours - colours.mean(axis=0)
        matrix = centred.T @ centred / count + refinement._VARIANCE * np.eye(3)
        slope = np.linalg.solve(matrix, centred.T @ (targets - targets.mean()) / count)
        coefficients[y, x] = [*slope, targets.mean() - slope @ colours.mean(axis=0)]
    means = windows(coefficients).mean(axis=2)
    expected = (means[..., :3] * guide).sum(axis=-1) + means[..., 3]
    np.testing.assert_allclose(refinement._guided(values, guide), expected, atol=2e-4)
