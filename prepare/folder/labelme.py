"""Masks from labelme's JSONs, one for each image, with the name of the image."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from episodes.class_names import checked_names, read_class_names
from prepare.json_values import check_outline, checked_name, checked_size
from prepare.workers import process_map
from util.errors import UserError, shown
from util.files import read_json
from util.images import IGNORE, decode_label
from util.logging import logger

_Points = tuple[tuple[float, float], ...]

_ADVICE = "correct it in labelme"
# The first lines of labelme's own labels.txt.
_SPECIAL_LABELS = {"_background_": 0, "__ignore__": IGNORE}
# The fewest points of a shape that enclose something, and the most it may have.
_POINTS = {
    "polygon": (3, None),
    "rectangle": (2, 2),
    "rotation": (4, 4),  # X-AnyLabeling's rectangle that is turned
    "circle": (2, 2),
    "mask": (2, 2),
}
_LINES = {"line", "linestrip", "point", "points"}


class _Shape(NamedTuple):
    """An outline: ``kind`` is a key of ``_POINTS``; ``bitmap`` (h, w) are the pixels of a "mask" at its first point."""

    kind: str
    label: str
    points: _Points
    bitmap: np.ndarray | None


class _Annotated(NamedTuple):
    """The content of a JSON; ``skipped`` counts lines, points, and polygons of fewer than three points."""

    path: Path
    height: int
    width: int
    shapes: tuple[_Shape, ...]
    skipped: int


class LabelmeMask(NamedTuple):
    """The mask of an image from its JSON; ``labels`` maps labelme's labels to label values."""

    path: Path
    annotated: _Annotated
    labels: Mapping[str, int]

    def size(self) -> tuple[int, int]:
        return self.annotated.height, self.annotated.width

    def read(self) -> np.ndarray:
        """The label map, uint8 (H, W): later shapes lie on top, as labelme shows them; the outside is cut off."""
        image = Image.new("L", (self.annotated.width, self.annotated.height))
        draw = ImageDraw.Draw(image)
        for shape in self.annotated.shapes:
            _draw(draw, shape, self.labels[shape.label])
        return np.array(image)


def read_labelme(
    paths: Sequence[Path], names_file: Path | None, workers: int
) -> tuple[tuple[str, ...], list[LabelmeMask]]:
    """The names of classes 1, 2, ... and a mask for each JSON, which ``workers`` processes read.

    Classes are in the order of ``names_file``, else alphabetical. Labels ``_background_`` and ``__ignore__`` are 0 and
    255. Shapes that enclose nothing are left out, with one line in the log. Raises ``UserError`` for a file that is not
    labelme's, a shape that cannot be drawn and a label that ``names_file`` lacks.
    """
    # Read the JSONs
    files = list(tqdm(process_map(_read, paths, workers), total=len(paths), desc="reading", unit="file"))
    skipped = [file for file in files if file.skipped]
    if skipped:
        count = sum(file.skipped for file in skipped)
        logger.warning(
            "%s (%d files): %d shapes enclose nothing and are left out", skipped[0].path, len(skipped), count
        )

    # Number the classes
    sources = {shape.label: file.path for file in files for shape in file.shapes if shape.label not in _SPECIAL_LABELS}
    if names_file is None:
        names = checked_names(sorted(sources), paths[0] if len(paths) == 1 else paths[0].parent)
    else:
        names = tuple(name for name in read_class_names(names_file) if name not in _SPECIAL_LABELS)
    for label, path in sources.items():
        if label not in names:
            raise UserError(f"{path}: label {shown(label)} is not in {names_file}; add it there or correct the label")
    labels = {**_SPECIAL_LABELS, **{name: row for row, name in enumerate(names, start=1)}}
    return names, [LabelmeMask(file.path, file, labels) for file in files]


def _read(path: Path) -> _Annotated:
    content = read_json(path, advice="save it in labelme again")
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise UserError(f"{path}: not a labelme file: it has no list 'shapes'")
    height, width = checked_size(content, "imageHeight", "imageWidth", str(path), "open and save it in labelme")
    shapes = [_shape(entry, f"{path}: shape {row}") for row, entry in enumerate(content["shapes"], start=1)]
    kept = tuple(shape for shape in shapes if shape is not None)
    return _Annotated(path, height, width, kept, skipped=len(shapes) - len(kept))


def _shape(entry: Any, place: str) -> _Shape | None:
    """The shape, or None where it encloses nothing."""
    if not isinstance(entry, dict):
        raise UserError(f"{place}: not an object with 'label' and 'points'; {_ADVICE}")
    label = " ".join(checked_name(entry, "label", place, _ADVICE).split())
    if not label:
        raise UserError(f"{place}: 'label' is empty; {_ADVICE}")
    kind = entry.get("shape_type") or "polygon"
    if not isinstance(kind, str) or kind not in (*_POINTS, *_LINES):
        raise UserError(f"{place}: has type {shown(kind)}; expected one of {', '.join(_POINTS)}; {_ADVICE}")
    if kind in _LINES:
        return None
    points = _points(entry.get("points"), place)
    if kind == "rectangle" and len(points) == 4:
        kind = "rotation"  # X-AnyLabeling's have all corners
    fewest, most = _POINTS[kind]
    if most is not None and len(points) != most:
        raise UserError(f"{place}: a {kind} has {most} points, this one {len(points)}; {_ADVICE}")
    if len(points) < fewest:
        return None
    bitmap = _bitmap(entry.get("mask"), place) if kind == "mask" else None
    return _Shape(kind, label, points, bitmap)


def _points(value: Any, place: str) -> _Points:
    try:
        points = tuple((float(x), float(y)) for x, y in value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{place}: 'points' is not a list of x, y; {_ADVICE}") from None
    check_outline(np.array(points, dtype=np.float64).ravel(), place, _ADVICE)
    return points


def _bitmap(value: Any, place: str) -> np.ndarray:
    """The pixels that labelme's assistant selected: a PNG as text."""
    try:
        data = base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise UserError(f"{place}: 'mask' is not a PNG in base64; {_ADVICE}") from None
    return decode_label(data, place)


def _draw(draw: ImageDraw.ImageDraw, shape: _Shape, value: int) -> None:
    """Draw as labelme's own export does, which includes the pixels of the outline."""
    first, second = shape.points[:2]
    if shape.bitmap is not None:
        draw.bitmap((int(first[0]), int(first[1])), Image.fromarray((shape.bitmap > 0).astype(np.uint8) * 255), value)
    elif shape.kind in ("polygon", "rotation"):
        draw.polygon(shape.points, fill=value, outline=value)
    elif shape.kind == "rectangle":
        draw.rectangle([*map(min, first, second), *map(max, first, second)], fill=value)
    else:
        radius = math.dist(first, second)
        draw.ellipse([first[0] - radius, first[1] - radius, first[0] + radius, first[1] + radius], fill=value)
