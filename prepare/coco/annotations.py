"""Reading COCO's ``instances_*.json``: what drawing needs of it, checked; every mistake is told in one line.

The files have up to 450 MB. Images and annotations are made compact while the text is parsed, so that it never lies
in memory as Python's own lists of numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import numpy as np

from util.errors import UserError
from util.logging import logger

# pycocotools walks along an outline pixel by pixel, in 32-bit numbers.
_FARTHEST = 1e6
# Two for each of three points: pycocotools takes four numbers for a box.
_FEWEST_NUMBERS = 6
_ADVICE = "correct the file or download it again"
_EXPECTED = "expected COCO's instances_*.json"
_KINDS = {int: "a whole number", str: "a text", list: "a list"}

_Kind = TypeVar("_Kind")


class RunLengths(NamedTuple):
    """A mask, column by column: how many pixels lie outside, then inside, then outside and so on.

    ``size`` is [height, width], ``counts`` uint32 (n,) with height * width as its sum.
    """

    size: list[int]
    counts: np.ndarray


class Annotation(NamedTuple):
    """An object, or a ``crowd``: a region that holds several. A polygon is float64 (2n,), x and y in turns."""

    id: int
    image_id: int
    category: int
    crowd: bool
    segmentation: list[np.ndarray] | RunLengths


class AnnotatedImage(NamedTuple):
    """An image and its annotations; ``name`` is its file name, without folders where COCO's own file is read."""

    id: int
    name: str
    height: int
    width: int
    annotations: list[Annotation]


@dataclass(frozen=True)
class Instances:
    """The images of a file, by name, and the names of all categories by their ids."""

    path: Path
    images: list[AnnotatedImage]
    categories: dict[int, str]


def read_instances(path: Path) -> Instances:
    """Read and check COCO's file of annotations: the images that have something to draw.

    Polygons of fewer than three points are left out, with one line in the log. Raises ``UserError`` for a file that
    is none of COCO's instances, for ids that are unknown or given twice, and for masks that cannot be drawn.
    """
    instances = _read(path, keep_folders=False)
    annotated = [image for image in instances.images if image.annotations]
    if not annotated:
        raise UserError(f"{path}: no annotation in it outlines anything; {_EXPECTED}")
    return replace(instances, images=annotated)


def read_own_instances(path: Path) -> Instances:
    """Read and check somebody's own file in COCO's format: all images, their names with the folders they are in.

    Raises ``UserError`` as ``read_instances``, and not where nothing is annotated.
    """
    return _read(path, keep_folders=True)


def _read(path: Path, *, keep_folders: bool) -> Instances:
    content = _parse(path)
    categories = _categories(path, _section(path, content, "categories"))
    images = _images(path, _section(path, content, "images"), keep_folders=keep_folders)
    _distribute(path, _section(path, content, "annotations"), images, categories)
    return Instances(path, sorted(images.values(), key=lambda image: image.name), categories)


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_hook=partial(_compact, path))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: file not found; {_EXPECTED}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); {_ADVICE}") from None


def _compact(path: Path, entry: dict[str, Any]) -> Any:
    """What is kept of a JSON object."""
    if "segmentation" in entry:
        place = f"{path}: annotation {entry.get('id')}"
        return Annotation(
            id=_value(entry, "id", int, place),
            image_id=_value(entry, "image_id", int, place),
            category=_value(entry, "category_id", int, place),
            crowd=bool(entry.get("iscrowd")),
            segmentation=_segmentation(entry["segmentation"], place),
        )
    if "file_name" in entry:
        place = f"{path}: image {entry.get('id')}"
        return AnnotatedImage(
            id=_value(entry, "id", int, place),
            name=_value(entry, "file_name", str, place),
            height=_value(entry, "height", int, place),
            width=_value(entry, "width", int, place),
            annotations=[],
        )
    return entry


def _value(entry: Mapping[str, Any], key: str, kind: type[_Kind], place: str) -> _Kind:
    value = entry.get(key)
    if not isinstance(value, kind):
        raise UserError(f"{place}: '{key}' is missing or not {_KINDS[kind]}; {_ADVICE}")
    return value


def _segmentation(segmentation: Any, place: str) -> list[np.ndarray] | RunLengths:
    if isinstance(segmentation, list):
        return [_polygon(points, place) for points in segmentation]
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation, place)
    raise UserError(f"{place}: 'segmentation' is neither a list of polygons nor run lengths (RLE); {_ADVICE}")


def _polygon(points: Any, place: str) -> np.ndarray:
    try:
        polygon = np.asarray(points, dtype=np.float64)
        proper = polygon.ndim == 1 and polygon.size % 2 == 0 and bool(np.all(np.abs(polygon) <= _FARTHEST))
    except (TypeError, ValueError, OverflowError):
        proper = False
    if not proper:
        raise UserError(f"{place}: a polygon is no list x, y, x, y, ... of pixels; {_ADVICE}")
    return polygon


def _run_lengths(entry: Mapping[str, Any], place: str) -> RunLengths:
    """Check what pycocotools does not: run lengths of too few pixels are filled up with whatever lies in memory."""
    size, counts = _value(entry, "size", list, place), entry.get("counts")
    lengths = np.asarray(_decompress(counts) if isinstance(counts, str) else _value(entry, "counts", list, place))
    proper = len(size) == 2 and all(isinstance(side, int) for side in size)
    proper = proper and lengths.ndim == 1 and lengths.dtype.kind in "iu" and bool(np.all(lengths >= 0))
    if not proper or int(lengths.sum()) != size[0] * size[1]:
        raise UserError(f"{place}: the run lengths (RLE) are not those of {size} pixels (height, width); {_ADVICE}")
    return RunLengths(size, lengths.astype(np.uint32))


def _decompress(text: str) -> list[int]:
    """Run lengths from COCO's text form, in which a character holds five bits and whether more of the number follow.

    The last character has the sign; from the fourth number on it is the difference to the last but one.
    """
    lengths: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        number |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            number -= (bits & 0x10) << (shift - 4)  # the sign's weight is minus the next power of two
            lengths.append(number + lengths[-2] if len(lengths) > 2 else number)
            number = shift = 0
    return lengths


def _section(path: Path, content: Any, name: str) -> list[Any]:
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object with 'images', 'annotations' and 'categories'; {_EXPECTED}")
    if name not in content:
        raise UserError(f"{path}: has no '{name}'; {_EXPECTED}")
    return _value(content, name, list, str(path))


def _categories(path: Path, entries: Iterable[Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise UserError(f"{path}: a category is not an object with 'id' and 'name'; {_EXPECTED}")
        place = f"{path}: category {entry.get('id')}"
        number = _value(entry, "id", int, place)
        if number in categories:
            raise UserError(f"{place}: this id is given twice; {_ADVICE}")
        categories[number] = _value(entry, "name", str, place)
    return categories


def _images(path: Path, entries: Iterable[Any], *, keep_folders: bool) -> dict[int, AnnotatedImage]:
    """Images by id. Without folders labels are named like images, less the suffix, so that must be unique as well."""
    images: dict[int, AnnotatedImage] = {}
    taken: set[str] = set()
    for image in entries:
        if not isinstance(image, AnnotatedImage):
            raise UserError(f"{path}: an image has no 'file_name'; {_EXPECTED}")
        place = f"{path}: image {image.id}"
        if image.id in images:
            raise UserError(f"{place}: this id is given twice; {_ADVICE}")
        name = PurePosixPath(image.name.replace("\\", "/"))  # as Windows writes it
        key = name.as_posix() if keep_folders else name.stem
        if not name.name or key in taken:
            raise UserError(f"{place}: '{image.name}' is no file name of its own; {_ADVICE}")
        taken.add(key)
        images[image.id] = image._replace(name=name.as_posix() if keep_folders else name.name)
    return images


def _distribute(
    path: Path, entries: Iterable[Any], images: Mapping[int, AnnotatedImage], categories: Mapping[int, str]
) -> None:
    """Give every image its annotations, those that outline something."""
    ids: set[int] = set()
    short_polygons = boxes = 0
    for annotation in entries:
        if not isinstance(annotation, Annotation):
            raise UserError(f"{path}: an annotation has no 'segmentation'; {_EXPECTED}")
        place = f"{path}: annotation {annotation.id}"
        if annotation.id in ids:
            raise UserError(f"{place}: this id is given twice; {_ADVICE}")
        ids.add(annotation.id)
        if annotation.category not in categories:
            raise UserError(f"{place}: category {annotation.category} is not in 'categories'; {_ADVICE}")
        if annotation.image_id not in images:
            raise UserError(f"{place}: image {annotation.image_id} is not in 'images'; {_ADVICE}")
        image = images[annotation.image_id]
        if isinstance(annotation.segmentation, RunLengths):
            _check_size(annotation.segmentation, image, place)
            image.annotations.append(annotation)
            continue
        polygons = [polygon for polygon in annotation.segmentation if polygon.size >= _FEWEST_NUMBERS]
        short_polygons += len(annotation.segmentation) - len(polygons)
        boxes += not annotation.segmentation
        if polygons:
            image.annotations.append(annotation._replace(segmentation=polygons))
    if short_polygons:
        logger.warning("%s: %d polygons have fewer than three points and are left out", path, short_polygons)
    if boxes:
        logger.warning("%s: %d annotations have no outline and are left out", path, boxes)


def _check_size(run_lengths: RunLengths, image: AnnotatedImage, place: str) -> None:
    height, width = run_lengths.size
    if (height, width) != (image.height, image.width):
        raise UserError(
            f"{place}: its run lengths (RLE) are of {width} x {height} pixels and {image.name} of "
            f"{image.width} x {image.height}; {_ADVICE}"
        )
