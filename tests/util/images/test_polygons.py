"""util.images.polygons: drawn by Pillow, as labelme draws them, the polygons are the mask to the pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from util.images.polygons import outline_polygons


def drawn(polygons: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    image = Image.new("1", (shape[1], shape[0]))
    draw = ImageDraw.Draw(image)
    for polygon in polygons:
        draw.polygon([(float(x), float(y)) for x, y in polygon], fill=1, outline=1)
    return np.array(image)


@pytest.mark.parametrize("share", [0.03, 0.3, 0.6, 0.9, 1.0])
def test_noise_comes_back(share: float) -> None:
    """Single pixels, lines, corners that touch, holes in holes."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        objects = rng.random(rng.integers(1, 40, 2)) < share
        assert np.array_equal(drawn(outline_polygons(objects), objects.shape), objects)


def test_blobs_come_back_a_polygon_for_each_piece() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        objects = cv2.GaussianBlur(rng.random((90, 70)), (0, 0), 3) > 0.5
        polygons = outline_polygons(objects)
        assert np.array_equal(drawn(polygons, objects.shape), objects)
        assert len(polygons) == cv2.connectedComponents(objects.astype(np.uint8), connectivity=8)[0] - 1


def test_only_corners_are_kept() -> None:
    box, ring, pixel = np.zeros((3, 30, 30), dtype=bool)
    box[5:20, 5:25] = True
    ring |= box
    ring[10:15, 10:15] = False
    pixel[3, 4] = True
    (polygon,) = outline_polygons(box)
    assert sorted(map(tuple, polygon.tolist())) == [(5, 5), (5, 19), (24, 5), (24, 19)]
    (polygon,) = outline_polygons(ring)
    assert len(polygon) < 20
    (polygon,) = outline_polygons(pixel)
    assert polygon.tolist() == [[4, 3]] * 3  # fewer points are no polygon to annotation tools
    assert outline_polygons(np.zeros((4, 4), dtype=bool)) == []
