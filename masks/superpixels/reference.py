"""Felzenszwalb's superpixels by scikit-image."""

from __future__ import annotations

import numpy as np
from skimage import segmentation


def felzenszwalb(image: np.ndarray, scale: float, sigma: float, min_size: int) -> np.ndarray:
    """``masks.superpixels.felzenszwalb`` without its checks."""
    segments: np.ndarray = segmentation.felzenszwalb(image, scale=scale, sigma=sigma, min_size=min_size)
    return segments.astype(np.int32)
