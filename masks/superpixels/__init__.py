"""Superpixels: small regions of even colour that pseudo masks follow (SPEC section 11.5)."""

from __future__ import annotations

import numpy as np
from skimage import segmentation


def felzenszwalb(image: np.ndarray, scale: float = 100.0, sigma: float = 0.8, min_size: int = 200) -> np.ndarray:
    """Felzenszwalb's graph-based superpixels.

    ``image`` (H, W, 3) uint8, channels in any order. ``scale`` is in grey values of 0..255: larger gives larger
    superpixels; ``sigma`` smooths first; none is smaller than ``min_size`` pixels unless the image is.
    Returns (H, W) int32 with ids 0..n-1, each of one or more pixels.
    """
    return segmentation.felzenszwalb(image, scale=scale, sigma=sigma, min_size=min_size).astype(np.int32)
