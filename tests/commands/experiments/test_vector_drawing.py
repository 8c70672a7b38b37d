"""Drawings: the same shapes in both files, where they should be."""

from __future__ import annotations

from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from commands.experiments.vector_drawing import Dot, Line, Shape, Text, png, svg

RED = "#ff0000"


def pixels(*shapes: Shape) -> Any:
    """Of a drawing of 40 x 20 pixels, (20, 40) bool: where it is not white, each pixel of four of the PNG."""
    image = np.asarray(Image.open(BytesIO(png(shapes, (40, 20)))))
    assert image.shape == (40, 80, 3)
    return np.any(image.reshape(20, 2, 40, 2, 3) < 200, axis=(1, 3, 4))


def test_an_svg_has_an_element_for_each_shape() -> None:
    shapes: list[Shape] = [
        Line((1, 2), (3, 4.25), RED, dash=3),
        Dot((5, 6), RED),
        Text((7, 8), "5 % < 10 & more", "end"),
    ]
    root = ElementTree.fromstring(svg(shapes, (40, 20)))
    assert (root.get("width"), root.get("height")) == ("40", "20")
    background, line, dot, text = root
    assert background.get("fill") == "#ffffff"
    assert [line.get(key) for key in ("x1", "y1", "x2", "y2", "stroke-dasharray")] == ["1.0", "2.0", "3.0", "4.2", "3"]
    assert (dot.get("cx"), dot.get("cy")) == ("5.0", "6.0")
    assert (text.text, text.get("text-anchor")) == ("5 % < 10 & more", "end")


def test_a_png_has_them_in_the_same_places() -> None:
    assert pixels().sum() == 0
    line = pixels(Line((10, 5), (30, 5), RED, width=2))
    assert set(np.flatnonzero(line.any(axis=1))) <= {4, 5, 6}
    assert (np.flatnonzero(line.any(axis=0)).min(), np.flatnonzero(line.any(axis=0)).max()) in ((10, 29), (10, 30))
    rows, columns = np.nonzero(pixels(Dot((20, 10), RED)))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) in ((6, 13, 16, 23), (6, 14, 16, 24))


def test_dashes_leave_gaps() -> None:
    dashes = pixels(Line((0, 5), (40, 5), RED, width=2, dash=5)).any(axis=0)
    assert dashes[[2, 12, 22, 32]].all() and not dashes[[7, 17, 27, 37]].any()


def test_texts_are_anchored() -> None:
    columns = [
        np.flatnonzero(pixels(Text((20, 10), "mm", anchor)).any(axis=0)) for anchor in ("start", "middle", "end")
    ]
    assert columns[0].min() >= 19 and columns[2].max() <= 20
    assert abs((columns[1].min() + columns[1].max()) / 2 - 20) < 2
