"""Reading COCO's ``instances_*.json``: what drawing needs of it, checked; every mistake is a one-line error.

The files have up to 450 MB. Images and annotations are made compact while the text is parsed, so that the outlines are
never all in memory as Python lists of numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from prepare.coco.segmentation import ADVICE, CocoSegmentation, RunLengths, checked_value, read_segmentation
from util.errors import UserError
from util.logging import logger

# Two for each of three points: pycocotools takes four numbers for a box.
_MIN_NUMBERS = 6
_EXPECTED = "expected COCO's instances_*.json"


class Annotation(NamedTuple):
    """An object, or a ``crowd``, a region that holds several. A polygon is float64 (2n,): x, y, x, y, ..."""

    id: int
    image_id: int
    category: int
    crowd: bool
    segmentation: CocoSegmentation


class AnnotatedImage(NamedTuple):
    """An image and its annotations; ``name`` is its file name, without folders if read by ``read_instances``."""

    id: int
    name: str
    height: int
    width: int
    annotations: list[Annotation]


@dataclass(frozen=True)
class Instances:
    """The images of an annotation file, sorted by name, and the names of all categories by id."""

    path: Path
    images: list[AnnotatedImage]
    categories: dict[int, str]


def read_instances(path: Path) -> Instances:
    """Read and check an annotation file of COCO: the images that have something to draw.

    Polygons of fewer than three points are left out, with one line in the log. Raises ``UserError`` for a file that
    is not one of COCO's instances, for ids that are unknown or occur twice, and for masks that cannot be drawn.
    """
    instances = _read(path, keep_folders=False)
    annotated = [image for image in instances.images if image.annotations]
    if not annotated:
        raise UserError(f"{path}: none of its annotations outlines anything; {_EXPECTED}")
    return replace(instances, images=annotated)


def read_own_instances(path: Path) -> Instances:
    """Read and check a user's file in COCO's format: all images, with the folders in their names.

    Raises ``UserError`` like ``read_instances``, except where nothing is annotated.
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
        raise UserError(f"{path}: not valid JSON ({error}); {ADVICE}") from None


def _compact(path: Path, entry: dict[str, Any]) -> Any:
    """The compact form of a JSON object."""
    if "segmentation" in entry:
        place = f"{path}: annotation {entry.get('id')}"
        return Annotation(
            id=checked_value(entry, "id", int, place),
            image_id=checked_value(entry, "image_id", int, place),
            category=checked_value(entry, "category_id", int, place),
            crowd=bool(entry.get("iscrowd")),
            segmentation=read_segmentation(entry["segmentation"], place),
        )
    if "file_name" in entry:
        place = f"{path}: image {entry.get('id')}"
        return AnnotatedImage(
            id=checked_value(entry, "id", int, place),
            name=checked_value(entry, "file_name", str, place),
            height=checked_value(entry, "height", int, place),
            width=checked_value(entry, "width", int, place),
            annotations=[],
        )
    return entry


def _section(path: Path, content: Any, name: str) -> list[Any]:
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object with 'images', 'annotations' and 'categories'; {_EXPECTED}")
    if name not in content:
        raise UserError(f"{path}: has no '{name}'; {_EXPECTED}")
    return checked_value(content, name, list, str(path))


def _categories(path: Path, entries: Iterable[Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise UserError(f"{path}: a category is not an object with 'id' and 'name'; {_EXPECTED}")
        place = f"{path}: category {entry.get('id')}"
        number = checked_value(entry, "id", int, place)
        if number in categories:
            raise UserError(f"{place}: this id occurs twice; {ADVICE}")
        categories[number] = checked_value(entry, "name", str, place)
    return categories


def _images(path: Path, entries: Iterable[Any], *, keep_folders: bool) -> dict[int, AnnotatedImage]:
    """Images by id. Labels are named after images without suffix, and without folders that must be unique as well."""
    images: dict[int, AnnotatedImage] = {}
    taken: set[str] = set()
    for image in entries:
        if not isinstance(image, AnnotatedImage):
            raise UserError(f"{path}: an image has no 'file_name'; {_EXPECTED}")
        place = f"{path}: image {image.id}"
        if image.id in images:
            raise UserError(f"{place}: this id occurs twice; {ADVICE}")
        name = PurePosixPath(image.name.replace("\\", "/"))  # as Windows writes it
        key = name.as_posix() if keep_folders else name.stem
        if not name.name or key in taken:
            raise UserError(f"{place}: '{image.name}' is not a unique file name; {ADVICE}")
        taken.add(key)
        images[image.id] = image._replace(name=name.as_posix() if keep_folders else name.name)
    return images


def _distribute(
    path: Path, entries: Iterable[Any], images: Mapping[int, AnnotatedImage], categories: Mapping[int, str]
) -> None:
    """Give every image its annotations, except those that outline nothing."""
    ids: set[int] = set()
    short_polygons = boxes = 0
    for annotation in entries:
        # Check that it refers to an image and a category of the file
        if not isinstance(annotation, Annotation):
            raise UserError(f"{path}: an annotation has no 'segmentation'; {_EXPECTED}")
        place = f"{path}: annotation {annotation.id}"
        if annotation.id in ids:
            raise UserError(f"{place}: this id occurs twice; {ADVICE}")
        ids.add(annotation.id)
        if annotation.category not in categories:
            raise UserError(f"{place}: category {annotation.category} is not in 'categories'; {ADVICE}")
        if annotation.image_id not in images:
            raise UserError(f"{place}: image {annotation.image_id} is not in 'images'; {ADVICE}")

        # Keep what outlines something
        image = images[annotation.image_id]
        if isinstance(annotation.segmentation, RunLengths):
            _check_size(annotation.segmentation, image, place)
            image.annotations.append(annotation)
            continue
        polygons = [polygon for polygon in annotation.segmentation if polygon.size >= _MIN_NUMBERS]
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
            f"{place}: its run lengths (RLE) are for {width}x{height} pixels, but {image.name} is {image.width}x"
            f"{image.height}; {ADVICE}"
        )
