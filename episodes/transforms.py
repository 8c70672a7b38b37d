"""Augmentation for training and the fixed resize for tests (docs/method.md, section 10).

The parts work on a sample: image float32 (H, W, 3) RGB in 0..255, mask uint8 (H, W) with 1 = object, 255 = ignore,
padding uint8 (H, W) with 255 = padded. Every random number comes from the ``random.Random`` that is passed, in the
published order.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch

from util.images import IGNORE, IMAGENET_MEAN, IMAGENET_STD

PADDED = 255
_MEAN = IMAGENET_MEAN * 255
_STD = IMAGENET_STD * 255
_MEAN_COLOUR = [float(value) for value in _MEAN]
CONTENT_MULTIPLE = 8
_CROP_REDRAWS = 31
_CROP_KEEPS = 0.85


class Sample(NamedTuple):
    """An image on its way through the chain; the module's docstring gives shapes and values."""

    image: np.ndarray
    mask: np.ndarray
    padding: np.ndarray


class View(NamedTuple):
    """What the network sees of one image.

    ``image`` (3, H, W) float32, ImageNet-normalised; ``mask`` (H, W) int64 0/1/255; ``padding`` (H, W) bool,
    True where padded.
    """

    image: torch.Tensor
    mask: torch.Tensor
    padding: torch.Tensor


class Transform(Protocol):
    """How the episode datasets call a transform.

    Images with a longer side than ``useful_side`` are reduced to it, so more pixels are of no use; None: no limit.
    """

    useful_side: int | None

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, *, rng: random.Random, padding: np.ndarray | None = None
    ) -> View: ...


class TrainTransform:
    """Random scale, rotation, blur, flip and crop to (height, width).

    ``scale_range`` is relative to the image with a longer side of ``longer_side``: with the size of the test, objects
    are as large in training as in the test. Without it, it is relative to the file, as in the published code.
    """

    def __init__(
        self,
        *,
        height: int,
        width: int,
        scale_range: tuple[float, float],
        rotate_range: tuple[float, float],
        longer_side: int | None = None,
    ) -> None:
        self.height = height
        self.width = width
        self.scale_range = scale_range
        self.rotate_range = rotate_range
        self.longer_side = longer_side
        self.useful_side = None if longer_side is None else math.ceil(longer_side * scale_range[1])

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, rng: random.Random, padding: np.ndarray | None = None
    ) -> View:
        """``image`` (H, W, 3) uint8 RGB; ``mask`` (H, W) uint8 0/1/255; ``padding`` (H, W) uint8, 255 = padded."""
        sample = _start(image, mask, padding)
        sample = scale(sample, rng, self.scale_range, self.longer_side)
        sample = rotate(sample, rng, self.rotate_range)
        sample = blur(sample, rng)
        sample = flip(sample, rng)
        sample = crop(sample, rng, self.height, self.width)
        return _finish(sample)


class ValTransform:
    """Longer side to ``size``, both sides a multiple of 8, placed in the top-left corner of a square.

    The rest of the square gets the mean colour (0 after normalisation), or black when ``published``.
    """

    def __init__(self, *, size: int, published: bool = False) -> None:
        self.size = size
        self.useful_side = None if published else size
        self.colour = np.zeros_like(_MEAN) if published else _MEAN

    def __call__(
        self,
        image: np.ndarray,
        mask: np.ndarray,
        padding: np.ndarray | None = None,
        rng: random.Random | None = None,
    ) -> View:
        """As ``TrainTransform``; ``rng`` is not used; it gives both transforms one signature."""
        return _finish(fit(_start(image, mask, padding), self.size, self.colour))


def content_size(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) that an image takes in the top-left corner of ``ValTransform``'s square; at least 8 each."""
    sides = (height * size // max(height, width), width * size // max(height, width))
    height, width = (max(CONTENT_MULTIPLE, side // CONTENT_MULTIPLE * CONTENT_MULTIPLE) for side in sides)
    return height, width


def fit(sample: Sample, size: int, colour: np.ndarray) -> Sample:
    """Resize to ``content_size`` and pad to a square: image ``colour`` (3,), mask 255, padding 255."""
    height, width = content_size(sample.mask.shape[0], sample.mask.shape[1], size)
    image = np.empty((size, size, 3), dtype=np.float32)
    image[:] = colour
    mask = np.full((size, size), IGNORE, dtype=np.uint8)
    padding = np.full((size, size), PADDED, dtype=np.uint8)
    image[:height, :width] = cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_LINEAR)
    mask[:height, :width] = cv2.resize(sample.mask, (width, height), interpolation=cv2.INTER_NEAREST)
    padding[:height, :width] = cv2.resize(sample.padding, (width, height), interpolation=cv2.INTER_NEAREST)
    return Sample(image, mask, padding)


def scale(
    sample: Sample, rng: random.Random, scale_range: tuple[float, float], longer_side: int | None = None
) -> Sample:
    """Resize by a factor uniform in ``scale_range``, after the longer side was brought to ``longer_side`` if given.

    No side becomes shorter than one pixel.
    """
    low, high = scale_range
    unit = longer_side / max(sample.mask.shape) if longer_side else 1.0
    factor = max((low + (high - low) * rng.random()) * unit, 1 / min(sample.mask.shape))

    def resize(array: np.ndarray, how: int) -> np.ndarray:
        return cv2.resize(array, None, fx=factor, fy=factor, interpolation=how)

    return Sample(
        resize(sample.image, cv2.INTER_LINEAR),
        resize(sample.mask, cv2.INTER_NEAREST),
        resize(sample.padding, cv2.INTER_NEAREST),
    )


def rotate(sample: Sample, rng: random.Random, rotate_range: tuple[float, float], probability: float = 0.5) -> Sample:
    """Rotate about (W/2, H/2) by an angle in degrees uniform in ``rotate_range``, keeping the size."""
    if rng.random() >= probability:
        return sample
    low, high = rotate_range
    height, width = sample.mask.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), low + (high - low) * rng.random(), 1)

    def warp(array: np.ndarray, how: int, border: float | list[float]) -> np.ndarray:
        return cv2.warpAffine(array, matrix, (width, height), flags=how, borderValue=border)

    return Sample(
        warp(sample.image, cv2.INTER_LINEAR, _MEAN_COLOUR),
        warp(sample.mask, cv2.INTER_NEAREST, IGNORE),
        warp(sample.padding, cv2.INTER_NEAREST, PADDED),
    )


def blur(sample: Sample, rng: random.Random, probability: float = 0.5) -> Sample:
    """Gaussian blur of the image, 5x5, sigma 1.1."""
    if rng.random() >= probability:
        return sample
    # Sigma 0 selects OpenCV's own 1.1 for this size, the table (1 4 6 4 1)/16, which differs from the computed kernel.
    return sample._replace(image=cv2.GaussianBlur(sample.image, (5, 5), 0))


def flip(sample: Sample, rng: random.Random, probability: float = 0.5) -> Sample:
    """Mirror left and right."""
    if rng.random() >= probability:
        return sample
    return Sample(*(cv2.flip(array, 1) for array in sample))


def crop(sample: Sample, rng: random.Random, height: int, width: int) -> Sample:
    """Pad to at least (height, width), then cut a random window of that size.

    Windows are drawn until one keeps 85 % of the object's pixels, at most 31 more times; the last one is kept.
    """
    sample = _pad(sample, height, width)
    objects = sample.mask == 1
    enough = _CROP_KEEPS * np.count_nonzero(objects)
    for _ in range(1 + _CROP_REDRAWS):
        top = rng.randint(0, objects.shape[0] - height)
        left = rng.randint(0, objects.shape[1] - width)
        window = np.s_[top : top + height, left : left + width]
        if np.count_nonzero(objects[window]) >= enough:
            break
    return Sample(*(array[window] for array in sample))


def _pad(sample: Sample, height: int, width: int) -> Sample:
    """Pad evenly up to (height, width) with mean colour, 255, 255; an odd pixel goes to the bottom or right."""
    missing_rows = max(height - sample.mask.shape[0], 0)
    missing_columns = max(width - sample.mask.shape[1], 0)
    if missing_rows == 0 and missing_columns == 0:
        return sample
    top, left = missing_rows // 2, missing_columns // 2
    border = (top, missing_rows - top, left, missing_columns - left, cv2.BORDER_CONSTANT)
    return Sample(
        cv2.copyMakeBorder(sample.image, *border, value=_MEAN_COLOUR),
        cv2.copyMakeBorder(sample.mask, *border, value=IGNORE),
        cv2.copyMakeBorder(sample.padding, *border, value=PADDED),
    )


def _start(image: np.ndarray, mask: np.ndarray, padding: np.ndarray | None) -> Sample:
    return Sample(image.astype(np.float32), mask, np.zeros_like(mask) if padding is None else padding)


def _finish(sample: Sample) -> View:
    image = np.empty((3, *sample.mask.shape), dtype=np.float32)
    # Plane by plane: ten times faster than normalising pixels and transposing.
    for channel, plane in enumerate(image):
        np.subtract(sample.image[..., channel], _MEAN[channel], out=plane)
        plane /= _STD[channel]
    return View(
        torch.from_numpy(image),
        torch.from_numpy(sample.mask.astype(np.int64)),
        torch.from_numpy(sample.padding == PADDED),
    )
