"""One image of the shapes dataset, with its label: objects, clutter and occluders on a textured ground."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from prepare.shapes import outlines, textures

OutlineFamily = Callable[[np.random.Generator], outlines.Outline]


class Look(NamedTuple):
    """A texture: pattern, its frequency per object radius, and the two typical hues (in turns)."""

    pattern: textures.Pattern
    frequency: float
    hue: float
    second_hue: float


# Class i + 1 is entry i. Five consecutive ones are a fold; neighbouring classes share neither pattern nor hue.
CLASSES: tuple[tuple[OutlineFamily, Look], ...] = (
    (outlines.star, Look(textures.dots, 3.5, 0.14, 0.03)),
    (outlines.gear, Look(textures.grid, 2.6, 0.58, 0.10)),
    (outlines.crescent, Look(textures.marble, 3.0, 0.75, 0.60)),
    (outlines.heart, Look(textures.zigzag, 4.0, 0.97, 0.85)),
    (outlines.arrow, Look(textures.stripes, 5.0, 0.33, 0.16)),
    (outlines.cross, Look(textures.checks, 4.5, 0.00, 0.50)),
    (outlines.ring, Look(textures.spokes, 6.0, 0.45, 0.08)),
    (outlines.leaf, Look(textures.stripes, 8.0, 0.27, 0.20)),
    (outlines.house, Look(textures.bricks, 3.5, 0.05, 0.12)),
    (outlines.fish, Look(textures.rings, 7.0, 0.53, 0.65)),
    (outlines.clover, Look(textures.speckle, 3.0, 0.38, 0.90)),
    (outlines.bottle, Look(textures.fade, 1.8, 0.48, 0.30)),
    (outlines.bolt, Look(textures.grid, 4.0, 0.16, 0.70)),
    (outlines.comb, Look(textures.checks, 7.0, 0.83, 0.15)),
    (outlines.wave, Look(textures.dots, 5.5, 0.62, 0.47)),
    (outlines.triangle, Look(textures.rings, 4.5, 0.10, 0.95)),
    (outlines.mushroom, Look(textures.speckle, 1.8, 0.01, 0.13)),
    (outlines.butterfly, Look(textures.spokes, 9.0, 0.88, 0.55)),
    (outlines.key, Look(textures.bricks, 6.0, 0.12, 0.58)),
    (outlines.spiral, Look(textures.zigzag, 6.5, 0.70, 0.35)),
)
_PATTERNS = tuple(dict.fromkeys(look.pattern for _, look in CLASSES))

_OBJECTS = (1, 3)  # the fewest and the most in an image
_RADIUS = (0.2, 0.42)  # of an object, as a share of the image's side
_VISIBLE_AREA = 0.03  # the least of an object, as a share of the image
_VISIBLE_SHARE = 0.55  # the least of an object's own area, when something is in front of it
_ATTEMPTS = 20


class _Layer(NamedTuple):
    """Something painted: class (0: none), opacity float32 (H, W) in 0..1, look, coordinates (H, W) on its surface."""

    class_id: int
    opacity: np.ndarray
    look: Look
    u: np.ndarray
    v: np.ndarray


def draw_scene(rng: np.random.Generator, class_id: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a square image that shows an object of ``class_id``, and up to two more of any class.

    Returns the image, RGB uint8 (size, size, 3), and the label, uint8 (size, size): 0 background, 1..20 class,
    255 where objects meet anything else (a band of two pixels).
    """
    image = _ground(rng, size)
    label = np.zeros((size, size), dtype=np.uint8)
    for layer in _arrange(rng, class_id, size):
        image *= 1 - _shadow(rng, layer.opacity)[..., None]
        image += layer.opacity[..., None] * (_surface(rng, layer) - image)
        label[layer.opacity >= 0.5] = layer.class_id
    return _expose(rng, image), _mark_borders(label)


def _ground(rng: np.random.Generator, size: int) -> np.ndarray:
    """The background, float32 (size, size, 3): rough noise, a gradient or a wide pattern, and noise over it."""
    look = _random_look(rng)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    turn = rng.uniform(0, 2 * np.pi)
    u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    kind = rng.integers(3)
    if kind == 0:
        amount = textures.multi_scale_noise(x.shape, rng)
    elif kind == 1:
        amount = np.clip(u + 0.5, 0, 1)
    else:
        amount = look.pattern(4 * u, 4 * v, look.frequency * rng.uniform(0.5, 1.2), rng) * rng.uniform(0.3, 0.7)
    ground = textures.paint(amount, *textures.colour_pair(look.hue, look.second_hue, rng))
    rough = textures.paint(
        textures.multi_scale_noise(x.shape, rng), *textures.colour_pair(rng.random(), rng.random(), rng)
    )
    return np.asarray(ground + np.float32(rng.uniform(0.15, 0.5)) * (rough - ground), dtype=np.float32)


def _random_look(rng: np.random.Generator) -> Look:
    return Look(_PATTERNS[rng.integers(len(_PATTERNS))], rng.uniform(2, 7), rng.random(), rng.random())


def _arrange(rng: np.random.Generator, class_id: int, size: int) -> list[_Layer]:
    """Layers from back to front: clutter, objects and occluders; every object stays mostly visible."""
    clutter = [_place(rng, 0, size) for _ in range(rng.integers(0, 3))]
    classes = [class_id, *rng.integers(1, len(CLASSES) + 1, size=rng.integers(*_OBJECTS, endpoint=True) - 1)]
    classes += [0] * int(rng.integers(0, 2))
    objects: list[_Layer] = []
    for layer_class in classes:
        for _ in range(_ATTEMPTS):
            candidate = _place(rng, int(layer_class), size)
            if _all_visible([*objects, candidate]):
                objects.append(candidate)
                break
    return clutter + objects


def _place(rng: np.random.Generator, class_id: int, size: int) -> _Layer:
    """A layer of this class (0: a blob or a bar of any look) at a random place, size and angle."""
    # Outline and look
    if class_id:
        family, look = CLASSES[class_id - 1]
        look = look._replace(frequency=look.frequency * rng.uniform(0.85, 1.2))
        turn = rng.uniform(-0.9, 0.9)
        if rng.random() < 0.2:  # colour is typical of a class, but not always
            look = look._replace(hue=rng.random(), second_hue=rng.random())
    else:
        family, look = (outlines.blob if rng.random() < 0.7 else outlines.bar), _random_look(rng)
        turn = rng.uniform(-np.pi, np.pi)

    # Place, size and angle
    radius = size * rng.uniform(*_RADIUS)
    centre = rng.uniform(0.65 * radius, size - 0.65 * radius, 2)
    mirror = np.diag([rng.choice([-1.0, 1.0]) * rng.uniform(0.85, 1.15), 1.0])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    pose = radius * rotation @ mirror

    # Pixels
    opacity = _fill(_bend(rng, family(rng)), pose, centre, size)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) + 0.5
    u, v = np.tensordot(np.linalg.inv(pose).astype(np.float32), np.stack([x - centre[0], y - centre[1]]), axes=1)
    return _Layer(class_id, opacity, look, u, v)


def _bend(rng: np.random.Generator, outline: outlines.Outline) -> outlines.Outline:
    """Fit the outline to the unit circle and distort it smoothly, so that no two are the same."""
    points = np.concatenate(outline.parts)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    scale = np.linalg.norm(points - middle, axis=1).max()
    strength, waves, phase = rng.uniform(0, 0.07), rng.uniform(-3, 3, (2, 2)), rng.uniform(0, 6.3, 2)

    def bend(polygon: np.ndarray) -> np.ndarray:
        dense = (_subdivide(polygon) - middle) / scale
        return np.asarray(dense + strength * np.sin(dense @ waves + phase))

    return outlines.Outline([bend(part) for part in outline.parts], [bend(hole) for hole in outline.holes])


def _subdivide(polygon: np.ndarray) -> np.ndarray:
    """Cut every edge into four, so that a straight one can be bent."""
    steps = np.arange(4)[None, :, None] / 4
    edges = np.roll(polygon, -1, axis=0) - polygon
    return np.asarray(polygon[:, None] + steps * edges[:, None]).reshape(-1, 2)  # (4N, 2)


def _fill(outline: outlines.Outline, pose: np.ndarray, centre: np.ndarray, size: int) -> np.ndarray:
    """Opacity of the posed outline, float32 (size, size) in 0..1, with smooth edges."""
    canvas = np.zeros((size, size), dtype=np.uint8)
    for polygons, value in ((outline.parts, 255), (outline.holes, 0)):
        for polygon in polygons:
            corners = np.round((polygon @ pose.T + centre - 0.5) * 16).astype(np.int32)  # in 1/16 pixels
            cv2.fillPoly(canvas, [corners], value, lineType=cv2.LINE_AA, shift=4)
    return canvas.astype(np.float32) / 255


def _all_visible(layers: list[_Layer]) -> bool:
    """Whether enough of every object is visible when the layers are painted in this order."""
    free = np.ones_like(layers[0].opacity, dtype=bool)
    for layer in reversed(layers):
        body = layer.opacity >= 0.5
        seen = np.count_nonzero(body & free)
        if layer.class_id and seen < max(_VISIBLE_AREA * body.size, _VISIBLE_SHARE * np.count_nonzero(body)):
            return False
        free &= ~body
    return True


def _shadow(rng: np.random.Generator, opacity: np.ndarray) -> np.ndarray:
    """The share of light that a layer's shadow takes, float32 (H, W) in 0..0.4; most layers cast none."""
    strength, shift = rng.uniform(-0.5, 0.4), rng.integers(-4, 5, 2)
    if strength <= 0:
        return np.zeros_like(opacity)
    soft = cv2.GaussianBlur(opacity, (0, 0), 3)
    return np.asarray(np.roll(soft, shift, axis=(0, 1)) * np.float32(strength))


def _surface(rng: np.random.Generator, layer: _Layer) -> np.ndarray:
    """Colours of a layer before opacity, float32 (H, W, 3), lit from a random side."""
    amount = layer.look.pattern(layer.u, layer.v, layer.look.frequency, rng)
    colours = textures.paint(amount, *textures.colour_pair(layer.look.hue, layer.look.second_hue, rng))
    side, light = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3)
    shading = 1 - np.float32(light) * np.clip(np.cos(side) * layer.u + np.sin(side) * layer.v, -1, 1)
    return np.asarray(colours * shading[..., None], dtype=np.float32)


def _expose(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Blur a little, change exposure, add sensor noise; uint8."""
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9))
    image = image * np.float32(rng.uniform(0.8, 1.15))
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(1, 8))
    return np.asarray(np.clip(image + noise, 0, 255), dtype=np.uint8)


def _mark_borders(label: np.ndarray) -> np.ndarray:
    """Set to 255 every pixel that has a different label within one pixel."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return np.where(cv2.dilate(label, cross) != cv2.erode(label, cross), np.uint8(255), label)
