"""Superpixels, small regions of even colour that pseudo masks follow: checks and dispatch.

The method is in docs/method.md, section 11.5.

scikit-image, in ``reference.py``, defines the operation and is used where nothing is built; ``make.sh`` builds
``superpixels_cpu.cpp``. The two differ where edges have equal costs: scikit-image takes them in any order, the
native operator in the order right, down, down right, down left, each row by row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from masks.superpixels import reference
from util import operators

__all__ = ["backend", "felzenszwalb", "superpixels_of_sizes"]

# Far beyond any use: both implementations look at eight times as many pixels for every pixel.
MOST_SIGMA = 1000
_DEVICES = operators.load(Path(__file__).parent)


def backend() -> str:
    """What the function runs on: ``"reference"`` is scikit-image, ``"cpu"`` is native."""
    return ", ".join(_DEVICES) or "reference"


def felzenszwalb(image: np.ndarray, scale: float = 100.0, sigma: float = 0.8, min_size: int = 200) -> np.ndarray:
    """Felzenszwalb's graph-based superpixels (Felzenszwalb & Huttenlocher 2004), on one thread.

    ``image`` (H, W, 3) uint8, not empty, channels in any order. ``scale`` is in grey values of 0..255: larger gives
    larger superpixels; ``sigma`` in pixels, at most 1000, smooths first; none is smaller than ``min_size`` pixels
    unless the image is.

    Returns (H, W) int32 with ids 0..n-1, each of one or more pixels, in the order of their first pixels. Raises
    ``TypeError`` for a wrong dtype, ``ValueError`` for a wrong shape or number.
    """
    return superpixels_of_sizes(image, [(scale, min_size)], sigma)[0]


def superpixels_of_sizes(image: np.ndarray, sizes: Sequence[tuple[float, int]], sigma: float = 0.8) -> list[np.ndarray]:
    """``felzenszwalb`` with each (scale, min_size) of ``sizes``; what they share is computed once."""
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image: expected (H, W, 3) with pixels, got {image.shape}")
    if image.dtype != np.uint8:
        raise TypeError(f"image: expected uint8, got {image.dtype}")
    for scale, min_size in sizes:
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale: expected a positive number, got {scale}")
        if min_size < 1:
            raise ValueError(f"min_size: expected 1 or more, got {min_size}")
    if not 0 <= sigma <= MOST_SIGMA:
        raise ValueError(f"sigma: expected 0 to {MOST_SIGMA}, got {sigma}")
    if not _DEVICES:
        return [reference.felzenszwalb(image, scale, sigma, min_size) for scale, min_size in sizes]
    # A tensor shares the memory of an array that is dense and writable; others are copied.
    pixels = torch.from_numpy(np.require(image, requirements=("C", "W")))
    scales, min_sizes = zip(*sizes, strict=True)
    superpixels: Tensor = torch.ops.unsupfss.felzenszwalb(pixels, scales, sigma, min_sizes)
    return list(superpixels.numpy())


def _fake_felzenszwalb(image: Tensor, scales: Sequence[float], sigma: float, min_sizes: Sequence[int]) -> Tensor:
    return image.new_empty((len(scales), *image.shape[:2]), dtype=torch.int32)


if _DEVICES:
    torch.library.register_fake("unsupfss::felzenszwalb", _fake_felzenszwalb)
