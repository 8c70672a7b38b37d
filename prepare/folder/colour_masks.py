"""Masks in which colours stand for classes, and the table that maps colours to classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from episodes.class_names import checked_names
from util.errors import UserError, shown
from util.files import read_lines
from util.images import IGNORE, image_size
from util.images.mask_files import colour_codes, colour_name, read_mask_colours
from util.logging import logger

_Colour = tuple[int, int, int]

_BACKGROUND_NAMES = {"background", "_background_"}
_VOID_NAMES = {"void", "ignore", "ignored", "unlabelled", "unlabeled"}
_NUMBERS = r"(?P<red>\d{1,3})[\s,]+(?P<green>\d{1,3})[\s,]+(?P<blue>\d{1,3})"
# CVAT ends a line with the names of parts and actions. Colons after a name are matched as its part: if two repetitions
# could match them, a line of 20,000 would take minutes.
_NAME_FIRST = re.compile(rf"(?P<name>.*?)(?<=[\s:]){_NUMBERS}(?::.*)?")
_NAME_LAST = re.compile(rf"{_NUMBERS}[\s:]+(?P<name>.*)")
_EXPECTED = "NAME R G B, R G B NAME or NAME:R,G,B"


class ColourTable(NamedTuple):
    """A table of colours: the names of classes 1, 2, ..., and the label of each colour (red, green, blue)."""

    path: Path
    names: tuple[str, ...]
    labels: Mapping[_Colour, int]

    def settings(self) -> dict[str, int]:
        """The label of each colour, with keys that JSON can hold."""
        return {" ".join(map(str, colour)): label for colour, label in self.labels.items()}


class ColourMask(NamedTuple):
    """The mask of an image, in colours."""

    path: Path
    table: ColourTable

    def size(self) -> tuple[int, int]:
        return image_size(self.path)

    def read(self) -> np.ndarray:
        """The label map, uint8 (H, W), background where transparent.

        Raises ``UserError`` for a colour that the table lacks.
        """
        mask = read_mask_colours(self.path)
        codes = colour_codes(mask.colours)
        known = colour_codes(np.array(list(self.table.labels)))
        order = np.argsort(known)
        rows = order[np.searchsorted(known, codes, sorter=order).clip(max=len(known) - 1)]
        unknown = codes[mask.visible & (known[rows] != codes)]
        if unknown.size:
            self._refuse(unknown)
        return np.where(mask.visible, np.array(list(self.table.labels.values()), dtype=np.uint8)[rows], 0)

    def _refuse(self, unknown: np.ndarray) -> None:
        codes, counts = np.unique(unknown, return_counts=True)
        most = counts.argmax()
        more = f" (and {len(codes) - 1} more colours)" if len(codes) > 1 else ""
        raise UserError(
            f"{self.path}: {counts[most]} pixels of colour {colour_name(codes[most])}{more} that {self.table.path} "
            "lacks; add a line there or correct the mask"
        )


def read_colours(path: Path) -> ColourTable:
    """Read a table of colours: lines ``NAME R G B``, ``R G B NAME`` (as for CamVid) or ``NAME:R,G,B::`` (CVAT's).

    The line called background, else the first one, is label 0; others called void, ignore or unlabelled are 255; the
    rest are classes 1, 2, ... Raises ``UserError`` for any other line, and for names and colours that occur twice.
    """
    # The names, each once
    entries = list(_entries(path))
    names = [name for name, _ in entries]
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"{path}: two lines are called {shown(name)}; one colour for each name")

    # Their labels
    background = next((name for name in names if name.lower() in _BACKGROUND_NAMES), names[0] if names else "")
    voids = [name for name in names if name.lower() in _VOID_NAMES and name != background]
    classes = checked_names([name for name in names if name not in (background, *voids)], path)
    labels = {background: 0, **dict.fromkeys(voids, IGNORE), **{name: row for row, name in enumerate(classes, start=1)}}

    # The labels of their colours
    table: dict[_Colour, int] = {}
    for name, colour in entries:
        if colour in table:
            raise UserError(f"{path}: {shown(name)} has the colour of another line ({' '.join(map(str, colour))})")
        table[colour] = labels[name]
    logger.info("%s: background is '%s', ignored are %s", path, background, voids or "no pixels")
    return ColourTable(path, classes, table)


def _entries(path: Path) -> Iterator[tuple[str, _Colour]]:
    for number, line in enumerate(read_lines(path, f"expected {_EXPECTED} on each line"), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        entry = _parse(line)
        if entry is None:
            raise UserError(f"{path}, line {number}: {shown(line)}; expected {_EXPECTED}, numbers from 0 to 255")
        yield entry


def _parse(line: str) -> tuple[str, _Colour] | None:
    line = " ".join(line.split())
    if match := _NAME_FIRST.fullmatch(line):
        name = match["name"].rstrip(" :")
    elif match := _NAME_LAST.fullmatch(line):
        name = match["name"]
    else:
        return None
    colour = (int(match["red"]), int(match["green"]), int(match["blue"]))
    return (name, colour) if name and max(colour) <= 255 else None
