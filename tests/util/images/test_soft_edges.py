"""util.images.soft_edges: masks of one object with soft edges, label maps and pictures, told apart."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from util.images.soft_edges import find_two_values, is_picture


def drawing(height: int, width: int, factor: int = 1) -> Image.Image:
    """An ellipse and a line, white on black."""
    image = Image.new("L", (width * factor, height * factor))
    draw = ImageDraw.Draw(image)
    draw.ellipse([0.2 * image.width, 0.25 * image.height, 0.65 * image.width, 0.8 * image.height], fill=255)
    draw.line([10 * factor, 10 * factor, 0.9 * image.width, 0.15 * image.height], fill=255, width=3 * factor)
    return image


def as_jpeg(mask: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, format="JPEG", quality=quality)
    return np.array(Image.open(stream))


@pytest.mark.parametrize("shape", [(60, 80), (375, 500), (1500, 2000)])
def test_the_two_values_of_an_object_with_soft_edges_are_found(shape: tuple[int, int]) -> None:
    hard = drawing(*shape)
    objects = np.array(hard) > 0
    height, width = shape
    soft = {
        "drawn smoothly": np.array(drawing(*shape, factor=2).resize((width, height), Image.Resampling.BOX)),
        "blurred": np.array(hard.filter(ImageFilter.GaussianBlur(1))),
        "a soft brush": np.array(hard.filter(ImageFilter.GaussianBlur(height / 60))),
        "a brush that paints half": np.array(hard.filter(ImageFilter.GaussianBlur(1))) // 2,
    }
    for name, levels in soft.items():
        two = find_two_values(levels)
        assert two is not None and (two.low, two.high) == (0, 127 if "half" in name else 255), name
        assert ((levels >= two.middle) ^ objects).mean() < 0.02, name
    for quality in (10, 50, 75, 95):
        levels = as_jpeg(np.array(hard), quality)
        two = find_two_values(levels, is_lossy=True)
        assert two is not None and ((levels >= two.middle) ^ objects).mean() < 0.004, quality


def test_a_jpeg_that_was_saved_as_png_has_two_values() -> None:
    levels = as_jpeg(np.array(drawing(375, 500)), 60)
    two = find_two_values(levels)
    assert two is not None and ((levels >= two.middle) == (np.array(drawing(375, 500)) > 0)).all()


def scene(values: list[int], shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    """Squares of these values on 0, each with a border of 255 as PASCAL has."""
    label = np.zeros(shape, dtype=np.uint8)
    for number, value in enumerate(values):
        top, left = 4 + 28 * (number // 6), 4 + 26 * (number % 6)
        label[top - 2 : top + 22, left - 2 : left + 22] = 255
        label[top : top + 20, left : left + 20] = value
    return label


def outlined(inside: int, outline: int) -> np.ndarray:
    label = np.zeros((120, 160), dtype=np.uint8)
    cv2.circle(label, (80, 60), 40, inside, -1)
    cv2.circle(label, (80, 60), 40, outline, 2)
    return label


def scribbles() -> np.ndarray:
    """Nearly all void; lines of one pixel for background and a class."""
    label = np.full((120, 160), 255, dtype=np.uint8)
    label[20] = label[21] = label[:, 40] = 0
    label[60, 50:] = 15
    return label


LABELS = {
    "two values": np.where(scene([9]) == 9, 255, 0).astype(np.uint8),
    "one value": np.full((20, 30), 255, dtype=np.uint8),
    "one class": np.where(scene([15]) == 15, 15, 0).astype(np.uint8),
    "a class and void": scene([15]),
    "all classes": scene([*range(1, 21)]),
    "many classes and void": scene([*range(10, 250, 12)]),
    "mostly void": np.where(scene([1, 7, 20]) == 0, 255, np.where(scene([1, 7, 20]) == 255, 0, scene([1, 7, 20]))),
    "an outline between": outlined(2, 1),
    "an outline between, wide apart": outlined(40, 20),
    "scribbles": scribbles(),
    "noise of classes": np.random.default_rng(0).integers(0, 7, (40, 50), dtype=np.uint8),
}


@pytest.mark.parametrize("name", LABELS)
def test_label_maps_stay_what_they_are(name: str) -> None:
    label = LABELS[name].astype(np.uint8)
    assert find_two_values(label) is None
    assert not is_picture(label)


def test_pictures_are_neither() -> None:
    rows, columns = np.mgrid[:120, :160]
    noise = np.random.default_rng(0).normal(0, 6, (120, 160))
    photograph = (128 + 60 * np.sin(rows / 15) * np.cos(columns / 20) + noise).astype(np.uint8)
    peak = (255 * np.exp(-((rows - 60) ** 2 + (columns - 80) ** 2) / 600)).astype(np.uint8)
    several = cv2.resize(scene([60, 120, 250]), (113, 85), interpolation=cv2.INTER_LINEAR)
    for levels in (photograph, peak, several):
        assert find_two_values(levels) is None
        assert is_picture(levels)
