"""Textures and backgrounds of the shapes dataset.

A pattern maps coordinates u, v (float32, any shape; one unit is an object's radius) to the share of the second colour,
float32 in [0, 1].
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np

Pattern = Callable[[np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]


def stripes(u: np.ndarray, v: np.ndarray, frequency: float, rng: np.random.Generator) -> np.ndarray:
    """Parallel bands."""
    return _sharpen(np.sin(np.pi * frequency * u + rng.uniform(0, 6.3)), 3)


def checks(u: np.ndarray, v: np.ndarray, frequency: float, rng: np.random.Generator) -> np.ndarray:
    """A chessboard."""
    first, second = rng.uniform(0, 6.3, 2)
    return _sharpen(np.sin(np.pi * frequency * u + first) * np.sin(np.pi * frequency * v + second), 6)


def dots(u: np.ndarray, v: np.ndarray, frequency: float, rng: np.random.Generator) -> np.ndarray:
    """Discs in rows, every other row shifted."""
    row = np.floor(v * frequency)
    x, y = u * frequency + 0.5 * (row % 2) + rng.uniform(), v * frequency
    return _sharpen(rng.uniform(0.26, 0.36) - np.hypot(x % 1 - 0.5, y % 1 - 0.5), 12)


def rings(u: np.ndarray, v: np.ndarray, frequency: float, rng: np.random.Generator) -> np.ndarray:
    """Concentric bands."""
    x, y = rng.uniform(-0.3, 0.3, 2)
    return _sharpen(np.sin(np.pi * frequency * np.hypot(u - x, v - y) + rng.uniform(0, 6.3)), 3)


def zigzag(u: np.ndarray, v: np.ndarray, frequency: float, rng: np.random.Generator) -> np.ndarray:
    """Chevron bands."""
    wave = np.abs((v * frequency + rng.uniform()) % 2 - 1)
    return _sharpen(np.sin(np.pi * (frequency * u + 1.4 * wave)), 3)


def bricks(u: np.ndarray, v: np.ndarray, frequency: float, rng: np.random.Generator) -> np.ndarray:
    """Joints of a brick wall."""
    y = v * frequency + rng.uniform()
    x = u * frequency / 2 + 0.5 * (np.floor(y) % 2)
    joint = np.minimum(np.minimum(y % 1, 1 - y % 1), 2 * np.minimum(x % 1, 1 - x % 1))
    return _sharpen(0.14 - joint, 14)


def grid(u: np.ndarray, v: np.ndarray, frequency: float, rng: np.random.Generator) -> np.ndarray:
    """Two crossing sets of thin diagonal lines."""
    x, y = (np.abs((axis * frequency + rng.uniform()) % 1 - 0.5) for axis in (u + v, u - v))
    return _sharpen(0.16 - np.minimum(x, y), 14)


def marble(u: np.ndarray, v: np.ndarray, frequency: float, rng: np.random.Generator) -> np.ndarray:
    """Bands bent by noise."""
    warp = smooth_noise(u.shape, 5, rng) - 0.5
    return _sharpen(np.sin(np.pi * (frequency * u + 5 * warp)), 1)


def speckle(u: np.ndarray, v: np.ndarray, frequency: float, rng: np.random.Generator) -> np.ndarray:
    """Irregular patches."""
    return _sharpen(smooth_noise(u.shape, 9 * frequency, rng) - rng.uniform(0.5, 0.6), 8)


def spokes(u: np.ndarray, v: np.ndarray, frequency: float, rng: np.random.Generator) -> np.ndarray:
    """Sectors around the middle."""
    return _sharpen(np.sin(round(2 * frequency) * np.arctan2(v, u) + rng.uniform(0, 6.3)), 3)


def fade(u: np.ndarray, v: np.ndarray, frequency: float, rng: np.random.Generator) -> np.ndarray:
    """A cloudy gradient from top to bottom."""
    return np.clip(0.5 + 0.25 * frequency * v + 0.25 * (smooth_noise(u.shape, 12, rng) - 0.5), 0, 1)


def colour_pair(hue: float, second_hue: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two RGB colours (3,) float32 in 0..255 near these hues (in turns), one clearly lighter than the other."""
    dark, light = rng.uniform(0.2, 0.5), rng.uniform(0.7, 1.0)
    values = (dark, light) if rng.random() < 0.5 else (light, dark)
    saturations = rng.uniform(0.3, 0.9, 2)
    first, second = (
        np.array(colorsys.hsv_to_rgb((turn + rng.normal(0, 0.04)) % 1, saturation, value), dtype=np.float32) * 255
        for turn, saturation, value in zip((hue, second_hue), saturations, values, strict=True)
    )
    return first, second


def paint(amount: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mix two colours (3,) by ``amount`` (H, W) in [0, 1]: float32 (H, W, 3)."""
    return np.asarray(first + amount[..., None] * (second - first), dtype=np.float32)


def smooth_noise(shape: tuple[int, ...], cells: float, rng: np.random.Generator) -> np.ndarray:
    """Noise in [0, 1], float32 of ``shape`` (H, W), with about ``cells`` bumps along each side."""
    side = max(2, round(cells))
    coarse = rng.random((side, side), dtype=np.float32)
    return np.clip(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), 0, 1)


def multi_scale_noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Sum of noise at doubling frequencies, in [0, 1], float32 (H, W); its roughness varies."""
    persistence = rng.uniform(0.45, 0.9)
    weights = persistence ** np.arange(6)
    total = sum(weight * smooth_noise(shape, 3 * 2**octave, rng) for octave, weight in enumerate(weights))
    low, high = np.min(total), np.max(total)
    return np.asarray((total - low) / (high - low), dtype=np.float32)


def _sharpen(signal: np.ndarray, gain: float) -> np.ndarray:
    return np.clip(0.5 + 0.5 * gain * signal, 0, 1)
