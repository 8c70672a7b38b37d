"""Numbers as colours that people with any colour vision can put in order."""

from __future__ import annotations

import cv2
import numpy as np

# Below zero, zero, above zero; the ends are alike in brightness.
_DIVERGING = np.array([(33, 102, 172), (247, 247, 247), (178, 24, 43)], dtype=np.float32)
_GOLDEN_RATIO = 0.618034


def sequential_colours(values: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    """Dark blue at ``lowest``, green, yellow at ``highest``, as in viridis: float (...) to RGB uint8 (..., 3)."""
    levels = np.rint(255 * _share(values, lowest, highest)).astype(np.uint8)
    return _viridis()[levels]


def diverging_colours(values: np.ndarray, limit: float) -> np.ndarray:
    """Blue at ``-limit``, white at 0, red at ``limit``: float (...) to RGB uint8 (..., 3)."""
    places = 2 * _share(values, -limit, limit)
    channels = [np.interp(places, [0, 1, 2], channel) for channel in _DIVERGING.T]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def distinct_colours(count: int, hues: tuple[float, float]) -> np.ndarray:
    """``count`` colours with hues in a range of degrees, neighbours unlike each other: RGB uint8 (count, 3)."""
    places = np.arange(count) * _GOLDEN_RATIO % 1
    hue = hues[0] + places * (hues[1] - hues[0])
    brightness = np.array([1.0, 0.62, 0.8])[np.arange(count) % 3]
    saturation = np.array([0.9, 0.55])[np.arange(count) % 2]
    hsv = np.stack([hue, saturation, brightness], axis=-1).astype(np.float32)
    return np.rint(255 * cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]).astype(np.uint8)


def _share(values: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    """Where values lie between two numbers, 0..1; in the middle where these are the same."""
    if highest <= lowest:
        return np.full(values.shape, 0.5)
    return np.clip((values - lowest) / (highest - lowest), 0, 1)


def _viridis() -> np.ndarray:
    levels = np.arange(256, dtype=np.uint8)[None]
    return cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[0, :, ::-1]
