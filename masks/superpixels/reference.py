"""Felzenszwalb's superpixels by scikit-image."""

from __future__ import annotations

import numpy as np


def felzenszwalb(image: np.ndarray, scale: float, sigma: float, min_size: int) -> np.ndarray:
    """``masks.superpixels.felzenszwalb`` without its checks."""
    from skimage import segmentation  # takes a second to import, and is not needed where the native operator is built

    segments: np.ndarray = segmentation.felzenszwalb(image, scale=scale, sigma=sigma, min_size=min_size)
    return segments.astype(np.int32)
