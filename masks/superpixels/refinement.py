"""Predictions that follow the borders in the image (docs/method.md, section 12.1)."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from masks.superpixels import superpixels_of_sizes

# The longer side that the constants below belong to; larger images are reduced to it.
_SIDE = 384
# Scale of Felzenszwalb's superpixels, and their least number of pixels.
_SCALES = (25, 50, 100, 200, 400)
_SIGMA = 0.8
# Differences of logits beyond this are alike: a few sure pixels do not decide for a superpixel.
_SURE = 5.0
# Of the guided filter: windows reach so far from their centre; colours that vary less than this are no borders.
_RADIUS = 16
_VARIANCE = 1e-3


def refined(difference: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Probability of the object, 0..1, from the ``difference`` (H, W) of object's and background's logits.

    ``image`` (H, W, 3) uint8 RGB. Returns (H, W) float32.

    A pixel takes the mean over its superpixels of five sizes: what is of one colour is of one kind, and where the sizes
    disagree, most of them decide. The guided filter then gives the probability the borders of the image.
    """
    height, width = image.shape[:2]
    if max(height, width) <= _SIDE:
        return _refined(difference.astype(np.float32), image)
    factor = _SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))  # OpenCV's order
    small = _refined(
        cv2.resize(difference.astype(np.float32), size, interpolation=cv2.INTER_AREA),
        cv2.resize(image, size, interpolation=cv2.INTER_AREA),
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _refined(difference: np.ndarray, image: np.ndarray) -> np.ndarray:
    clipped = np.clip(difference, -_SURE, _SURE)
    votes = [_mean_of_superpixels(clipped, superpixels) for superpixels in _superpixels(image.tobytes(), image.shape)]
    probability = 1 / (1 + np.exp(-np.mean(votes, axis=0)))
    return np.clip(_guided(probability.astype(np.float32), image.astype(np.float32) / 255), 0, 1)


@lru_cache(maxsize=2)  # an image is often predicted for one class after the other
def _superpixels(pixels: bytes, shape: tuple[int, ...]) -> list[np.ndarray]:
    image = np.frombuffer(pixels, dtype=np.uint8).reshape(shape)
    return superpixels_of_sizes(image, [(scale, scale) for scale in _SCALES], _SIGMA)


def _mean_of_superpixels(values: np.ndarray, superpixels: np.ndarray) -> np.ndarray:
    """Every pixel of (H, W) takes the mean over its superpixel."""
    labels = superpixels.ravel()
    means = np.bincount(labels, weights=values.ravel()) / np.bincount(labels)
    return means[superpixels]


def _guided(values: np.ndarray, guide: np.ndarray) -> np.ndarray:
    """The guided filter of (H, W) by the colours (H, W, 3) in 0..1, both float32.

    In each window the values become an affine function of the colours; a pixel takes the mean of its windows. From He,
    Sun, Tang, "Guided Image Filtering", ECCV 2010, equations 14 to 16.
    """
    mean_guide, mean_values = _window_mean(guide), _window_mean(values)
    covariance = _window_mean(guide * values[..., None]) - mean_guide * mean_values[..., None]  # (H, W, 3)
    # Variances of the colours and their covariances: red, green, blue with themselves, then with the next one.
    following = [1, 2, 0]
    own, mixed = (
        _window_mean(guide * other) - mean_guide * mean_other
        for other, mean_other in ((guide, mean_guide), (guide[..., following], mean_guide[..., following]))
    )
    slope = _solved(own + _VARIANCE, mixed, covariance)
    intercept = mean_values - (slope * mean_guide).sum(axis=-1)
    filtered: np.ndarray = (_window_mean(slope) * guide).sum(axis=-1) + _window_mean(intercept)
    return filtered


def _solved(diagonal: np.ndarray, mixed: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solutions (H, W, 3) of symmetric systems with these right sides, by cofactors, ten times as fast as LAPACK's.

    ``diagonal`` (H, W, 3) and ``mixed`` (H, W, 3) hold the elements 00, 11, 22 and 01, 12, 20.
    """
    a00, a11, a22 = np.moveaxis(diagonal, -1, 0)
    a01, a12, a20 = np.moveaxis(mixed, -1, 0)
    c00, c11, c22 = a11 * a22 - a12**2, a00 * a22 - a20**2, a00 * a11 - a01**2
    c01, c12, c20 = a20 * a12 - a01 * a22, a01 * a20 - a00 * a12, a01 * a12 - a20 * a11
    r0, r1, r2 = np.moveaxis(right, -1, 0)
    scaled = np.stack([c00 * r0 + c01 * r1 + c20 * r2, c01 * r0 + c11 * r1 + c12 * r2, c20 * r0 + c12 * r1 + c22 * r2])
    return np.moveaxis(scaled / (a00 * c00 + a01 * c01 + a20 * c20), 0, -1)


def _window_mean(values: np.ndarray) -> np.ndarray:
    side = 2 * _RADIUS + 1
    return cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT)
