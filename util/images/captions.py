"""Text in pictures: in Pillow's own font, which is everywhere but ends with ASCII, or one of the system's."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_OWN_FONT = ""
# Tried in this order for lines with signs that the own font lacks: of Linux, Windows and macOS.
_SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "NotoSansCJK-Regular.ttc"),
    *("segoeui.ttf", "msyh.ttc", "Arial Unicode.ttf", "Helvetica.ttc"),
)
_NO_SIGN = "\uffff"
_LONGEST = 200  # characters of a line that are measured
_FEWEST = 4  # characters that are worth showing

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class _Line(NamedTuple):
    """Text, and the font that it is drawn in."""

    text: str
    font: _Font

    @property
    def width(self) -> float:
        return self.font.getlength(self.text)


def text_bar(lines: Sequence[str], width: int, size: int) -> np.ndarray:
    """Black lines on white, RGB uint8 (h, ``width``, 3), in letters of ``size`` pixels; what is too long is cut."""
    margin = size // 3
    bar = Image.new("RGB", (width, _height(size) * len(lines) + margin), "white")
    draw = ImageDraw.Draw(bar)
    for row, line in enumerate(_cut(line, width - 2 * margin, size) for line in lines):
        draw.text((margin, row * _height(size)), line.text, "black", line.font)
    return np.array(bar)


def text_box(lines: Sequence[str], colours: np.ndarray, widest: int, size: int) -> np.ndarray:
    """White lines on black, each behind a square of its colour, uint8 (n, 3); RGB uint8 (h, w, 3).

    At most ``widest`` pixels wide; without pixels where not even a few letters fit.
    """
    margin, indent = size // 3, size + size // 3
    cut = [_cut(line, widest - indent - margin, size) for line in lines]
    if min((len(line.text) for line in cut), default=0) < _FEWEST:
        return np.zeros((0, 0, 3), dtype=np.uint8)
    width = indent + margin + max(int(line.width) for line in cut)
    box = Image.new("RGB", (width, _height(size) * len(lines) + margin))
    draw = ImageDraw.Draw(box)
    for row, (line, colour) in enumerate(zip(cut, colours.tolist(), strict=True)):
        top = row * _height(size) + margin
        draw.rectangle([margin, top + size // 6, margin + size * 2 // 3, top + size * 5 // 6], tuple(colour))
        draw.text((indent, top - margin // 2), line.text, "white", line.font)
    return np.array(box)


def _height(size: int) -> int:
    """Of a line."""
    return size * 4 // 3


def _cut(line: str, width: int, size: int) -> _Line:
    """The line with an ellipsis where it is wider than ``width`` pixels; empty if nothing fits."""
    text = " ".join(line.encode(errors="replace").decode().split())  # names of files need not be text
    shown = _drawable(text[:_LONGEST], size)
    while shown.text and shown.width > width:
        shown = shown._replace(text=f"{shown.text.removesuffix('...')[:-1]}..." if len(shown.text) > 4 else "")
    return shown


def _drawable(text: str, size: int) -> _Line:
    """The text in the first font that has all of its signs; if none has, without accents, and with boxes for others."""
    for name in (_OWN_FONT, *_SYSTEM_FONTS):
        if all(_has(name, sign) for sign in text):
            return _Line(text, _font(name, size))
    letters = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    return _Line(letters, _font(_OWN_FONT, size))


@cache
def _has(name: str, sign: str) -> bool:
    """Whether a font is installed and draws ``sign`` other than one that it lacks."""
    try:
        font = _font(name, 14)
    except OSError:
        return False
    return sign.isspace() or bytes(font.getmask(sign)) != bytes(font.getmask(_NO_SIGN))


@cache
def _font(name: str, size: int) -> _Font:
    return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
