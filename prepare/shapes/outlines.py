"""Silhouettes of the shapes dataset: twenty families of outlines, each with variation within the family.

Coordinates are x to the right, y down, roughly within the unit circle; the scene scales and rotates them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Outline(NamedTuple):
    """Polygons, each float (N, 2) of x, y: the union of ``parts`` is filled, then ``holes`` are cut out."""

    parts: Sequence[np.ndarray]
    holes: Sequence[np.ndarray] = ()


def star(rng: np.random.Generator) -> Outline:
    """Five to seven points."""
    points, inner = int(rng.integers(5, 8)), rng.uniform(0.38, 0.52)
    return Outline([_polar(np.tile([1.0, inner], points))])


def gear(rng: np.random.Generator) -> Outline:
    """Eight to eleven teeth around a hole."""
    teeth, depth, hole = int(rng.integers(8, 12)), rng.uniform(0.2, 0.28), rng.uniform(0.2, 0.4)
    return Outline([_polar(np.tile([1, 1, 1 - depth, 1 - depth], teeth))], [_ellipse(0, 0, hole, hole)])


def crescent(rng: np.random.Generator) -> Outline:
    """A disc with another disc cut out of its side."""
    shift, radius = rng.uniform(0.4, 0.6), rng.uniform(0.75, 0.9)
    return Outline([_ellipse(0, 0, 1, 1)], [_ellipse(shift, 0, radius, radius)])


def heart(rng: np.random.Generator) -> Outline:
    """The classic sine curve, slim or broad."""
    angle = _angles(64)
    x = np.sin(angle) ** 3 * rng.uniform(0.85, 1.1)
    y = -(13 * np.cos(angle) - 5 * np.cos(2 * angle) - 2 * np.cos(3 * angle) - np.cos(4 * angle)) / 16
    return Outline([np.stack([x, y], axis=1)])


def arrow(rng: np.random.Generator) -> Outline:
    """A head on a straight shaft."""
    head, length, shaft = rng.uniform(0.55, 0.8), rng.uniform(0.7, 1.0), rng.uniform(0.2, 0.3)
    return Outline([_mirror([(0, -1), (head, length - 1), (shaft, length - 1), (shaft, 1)])])


def cross(rng: np.random.Generator) -> Outline:
    """An upright with a beam somewhere in its upper half."""
    width, arm, height = rng.uniform(0.22, 0.36), rng.uniform(0.75, 1.0), rng.uniform(-0.35, 0.05)
    upright = _mirror([(0, -1), (width, -1), (width, 1), (0, 1)])
    beam = _mirror([(0, height - width), (arm, height - width), (arm, height + width), (0, height + width)])
    return Outline([upright, beam])


def ring(rng: np.random.Generator) -> Outline:
    """A circle or ellipse with a concentric hole."""
    squash, hole = rng.uniform(0.75, 1.0), rng.uniform(0.42, 0.62)
    return Outline([_ellipse(0, 0, 1, squash)], [_ellipse(0, 0, hole, hole * squash)])


def leaf(rng: np.random.Generator) -> Outline:
    """A pointed oval, widest at or above the middle, on a stalk."""
    y = np.linspace(-1, 0.65, 24)
    width = rng.uniform(0.42, 0.58) * np.sin(np.pi * np.linspace(0, 1, 24) ** rng.uniform(0.9, 1.5))
    return Outline([_mirror(np.stack([width, y], axis=1)), _mirror([(0.07, 0.5), (0.09, 1)])])


def house(rng: np.random.Generator) -> Outline:
    """Gable roof, chimney left or right, door cut out."""
    wall, eaves, roof = rng.uniform(0.5, 0.75), rng.uniform(1.1, 1.35), rng.uniform(-0.4, -0.1)
    body = _mirror([(0, -1), (wall * eaves, roof), (wall, roof), (wall, 0.85)])
    side = rng.choice([-1, 1]) * wall
    chimney = np.array([(0.45, -0.95), (0.75, -0.95), (0.75, roof), (0.45, roof)]) * (side, 1)
    door = _ellipse(rng.uniform(-0.3, 0.3) * wall, 0.6, 0.17, 0.3)
    return Outline([body, chimney], [door])


def fish(rng: np.random.Generator) -> Outline:
    """A pointed body and a forked tail."""
    y = np.linspace(-1, 0.55, 24)
    width = rng.uniform(0.38, 0.55) * np.sin(np.pi * np.linspace(0, 0.92, 24) ** 0.8)
    tail = _mirror([(0.05, 0.3), (rng.uniform(0.4, 0.6), 1), (0, rng.uniform(0.75, 0.9))])
    return Outline([_mirror(np.stack([width, y], axis=1)), tail])


def clover(rng: np.random.Generator) -> Outline:
    """Three or four round lobes."""
    lobes, depth = int(rng.integers(3, 5)), rng.uniform(0.25, 0.36)
    return Outline([_polar(1 - depth + depth * np.cos(lobes * _angles(72)))])


def bottle(rng: np.random.Generator) -> Outline:
    """Lip, neck, sloping shoulders, straight body."""
    neck, body, shoulder = rng.uniform(0.12, 0.2), rng.uniform(0.36, 0.52), rng.uniform(-0.35, -0.05)
    lip = neck + 0.07
    profile = [(lip, -1), (lip, -0.85), (neck, -0.85), (neck, shoulder - 0.2), (body, shoulder + 0.15), (body, 1)]
    return Outline([_mirror(profile)])


def bolt(rng: np.random.Generator) -> Outline:
    """The zigzag of lightning."""
    corners = np.array([(0.25, -1), (-0.55, 0.1), (-0.05, 0.1), (-0.3, 1), (0.6, -0.25), (0.1, -0.25), (0.55, -1)])
    return Outline([corners * (rng.uniform(0.85, 1.3), 1) + rng.uniform(-0.06, 0.06, corners.shape)])


def comb(rng: np.random.Generator) -> Outline:
    """Three or four tines of unequal length on a spine."""
    tines, spine = int(rng.integers(3, 5)), rng.uniform(0.22, 0.32)
    pitch = 2 / tines
    tops = np.arange(tines) * (pitch + 0.4 * pitch / (tines - 1)) - 1
    lengths = rng.uniform(0.6, 0.8, tines)
    parts = [_box(-0.75, -1, -0.75 + spine, 1)]
    parts += [_box(-0.75, top, length, top + 0.6 * pitch) for top, length in zip(tops, lengths, strict=True)]
    return Outline(parts)


def wave(rng: np.random.Generator) -> Outline:
    """A band along one sine period or a little more."""
    x = np.linspace(-1, 1, 60)
    y = rng.uniform(0.38, 0.5) * np.sin(x * np.pi * rng.uniform(1.0, 1.4))
    return Outline([_ribbon(np.stack([x, y], axis=1), rng.uniform(0.15, 0.2))])


def triangle(rng: np.random.Generator) -> Outline:
    """A frame: a triangle with a triangular hole."""
    corners = _polar(np.ones(3)) * (rng.uniform(0.8, 1.1), 1)
    return Outline([corners], [corners * rng.uniform(0.3, 0.48)])


def mushroom(rng: np.random.Generator) -> Outline:
    """A domed cap on a stem that widens downward."""
    angle = np.linspace(0, np.pi / 2, 20)
    cap = np.stack([rng.uniform(0.8, 1.0) * np.sin(angle), 0.1 - rng.uniform(0.8, 1.1) * np.cos(angle)], axis=1)
    stem = rng.uniform(0.2, 0.32)
    return Outline([_mirror(cap), _mirror([(stem * 0.8, 0), (stem * 0.8, 0.4), (stem * 1.4, 1)])])


def butterfly(rng: np.random.Generator) -> Outline:
    """Two large and two small wings, open at a thin body."""
    upper, lower = rng.uniform(0.4, 0.5), rng.uniform(0.26, 0.34)
    wings = [
        ellipse
        for side in (-1, 1)
        for ellipse in (_ellipse(side * 0.5, -0.35, 0.5, upper), _ellipse(side * 0.36, 0.42, lower + 0.08, lower))
    ]
    return Outline([*wings, _ellipse(0, 0, 0.11, rng.uniform(0.7, 0.9))])


def key(rng: np.random.Generator) -> Outline:
    """A ring, a shaft and one to three bits."""
    bow, shaft = rng.uniform(0.38, 0.48), rng.uniform(0.1, 0.14)
    parts = [_ellipse(0, bow - 1, bow, bow), _box(-shaft, 0, shaft, 1)]
    parts += [_box(0, y, rng.uniform(0.35, 0.5), y + 0.17) for y in (0.45, 0.8)[: int(rng.integers(1, 3))]]
    return Outline([*parts, _box(0, 0.8, 0.4, 0.97)], [_ellipse(0, bow - 1, bow * 0.45, bow * 0.45)])


def spiral(rng: np.random.Generator) -> Outline:
    """A band that winds nearly twice around its centre."""
    turns = rng.uniform(1.6, 1.95)
    angle = np.linspace(0, 2 * np.pi * turns, 110)
    radius = 0.08 + 0.78 * angle / angle[-1]
    centre_line = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Outline([_ribbon(centre_line, rng.uniform(0.11, 0.14))])


def blob(rng: np.random.Generator) -> Outline:
    """No class: an irregular patch, for occluders and clutter."""
    angle = _angles(48)
    waves = sum(rng.normal(0, 0.22 / order) * np.cos(order * angle + rng.uniform(0, 6.3)) for order in range(1, 6))
    return Outline([_polar(np.clip(0.75 + waves, 0.2, 1)) * (1, rng.uniform(0.5, 1))])


def bar(rng: np.random.Generator) -> Outline:
    """No class: a long beam, for occluders."""
    thickness = rng.uniform(0.06, 0.14)
    return Outline([_box(-1, -thickness, 1, thickness)])


def _angles(count: int) -> np.ndarray:
    return np.arange(count) * (2 * np.pi / count)


def _polar(radius: np.ndarray) -> np.ndarray:
    """The closed curve of these radii at evenly spaced angles, the first one pointing up."""
    angle = _angles(len(radius)) - np.pi / 2
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _ellipse(x: float, y: float, width: float, height: float) -> np.ndarray:
    return _polar(np.ones(48)) * (width, height) + (x, y)


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _mirror(profile: Sequence[tuple[float, float]] | np.ndarray) -> np.ndarray:
    """The polygon of a right-hand profile, listed downward, and its mirror image."""
    right = np.asarray(profile, dtype=float)
    return np.concatenate([right, right[::-1] * (-1, 1)])


def _ribbon(centre_line: np.ndarray, half_width: float) -> np.ndarray:
    """The band of constant width along a curve."""
    tangent = np.gradient(centre_line, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) / np.linalg.norm(tangent, axis=1, keepdims=True)
    return np.concatenate([centre_line + half_width * normal, (centre_line - half_width * normal)[::-1]])
