"""A drawing of lines, dots and texts, as SVG and as PNG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from io import BytesIO
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]  # pixels from the left and from the top
_FONT_SIZE = 13
_DOT = 4
# Pixels of the PNG for a pixel of the drawing, and how much finer it is painted before it is reduced.
_SCALE, _FINER = 2, 2


class Line(NamedTuple):
    """From one point to another; ``dash`` is the length of dashes and gaps, 0 for none."""

    start: Point
    end: Point
    colour: str
    width: float = 1.0
    dash: float = 0.0


class Dot(NamedTuple):
    """A filled circle."""

    centre: Point
    colour: str


class Text(NamedTuple):
    """One line of text; ``anchor`` says which part of it is at ``place``: start, middle or end."""

    place: Point
    text: str
    anchor: str = "start"


Shape = Line | Dot | Text


def svg(shapes: Sequence[Shape], size: tuple[int, int]) -> str:
    """The drawing of ``size`` (width, height) as SVG."""
    width, height = size
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="{_FONT_SIZE}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *map(_element, shapes),
        "</svg>\n",
    ]
    return "\n".join(lines)


def png(shapes: Sequence[Shape], size: tuple[int, int]) -> bytes:
    """The same as a PNG of twice as many pixels in each direction."""
    width, height = (side * _SCALE for side in size)
    fine = _SCALE * _FINER
    image = Image.new("RGB", (width * _FINER, height * _FINER), "#ffffff")
    canvas = ImageDraw.Draw(image)
    font = ImageFont.load_default(_FONT_SIZE * fine)
    anchors = {"start": "lm", "middle": "mm", "end": "rm"}
    for shape in shapes:
        if isinstance(shape, Line):
            for start, end in _dashes(shape):
                points = [coordinate * fine for coordinate in (*start, *end)]
                canvas.line(points, fill=shape.colour, width=round(shape.width * fine))
        elif isinstance(shape, Dot):
            x, y = (coordinate * fine for coordinate in shape.centre)
            radius = _DOT * fine
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shape.colour)
        else:
            x, y = (coordinate * fine for coordinate in shape.place)
            canvas.text((x, y), shape.text, fill="#000000", font=font, anchor=anchors[shape.anchor])
    stream = BytesIO()
    image.resize((width, height), Image.Resampling.BOX).save(stream, format="PNG")
    return stream.getvalue()


def _element(shape: Shape) -> str:
    if isinstance(shape, Line):
        (x1, y1), (x2, y2) = shape.start, shape.end
        dash = f' stroke-dasharray="{shape.dash:g}"' if shape.dash else ""
        return (
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{shape.colour}" '
            f'stroke-width="{shape.width:g}"{dash}/>'
        )
    if isinstance(shape, Dot):
        x, y = shape.centre
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_DOT}" fill="{shape.colour}"/>'
    x, y = shape.place
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{shape.anchor}" dominant-baseline="central">'
        f"{escape(shape.text)}</text>"
    )


def _dashes(line: Line) -> Iterator[tuple[Point, Point]]:
    """The line, or its dashes."""
    (x1, y1), (x2, y2) = line.start, line.end
    length = math.hypot(x2 - x1, y2 - y1)
    if not line.dash or not length:
        yield line.start, line.end
        return
    for begin in range(math.ceil(length / (2 * line.dash))):
        near, far = (min(1.0, (2 * begin + end) * line.dash / length) for end in (0, 1))
        yield (x1 + near * (x2 - x1), y1 + near * (y2 - y1)), (x1 + far * (x2 - x1), y1 + far * (y2 - y1))
