"""Reading COCO's ``instances_*.json``: what drawing needs of it, checked; every mistake is a one-line error.

The files have up to 450 MB. Images and annotations are made compact while the text is parsed, so that the outlines are
never all in memory as Python lists of numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from unicodedata import normalize

from prepare.coco.sections import parse_sections
from prepare.coco.segmentation import ADVICE, CocoSegmentation, RunLengths, read_segmentation
from prepare.json_values import checked_name, checked_size, checked_value
from util.errors import UserError, shown
from util.files import json_errors, read_text
from util.logging import logger

# Two for each of three points: pycocotools takes four numbers for a box.
_MIN_NUMBERS = 6
# Control characters, ends of lines, and halves of characters, which JSON can hold.
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_EXPECTED = "expected COCO's instances_*.json"


class Annotation(NamedTuple):
    """An object, or a ``crowd``, a region that holds several. A polygon is float64 (2n,): x, y, x, y, ..."""

    id: int
    image_id: int
    category: int
    crowd: bool
    segmentation: CocoSegmentation


class AnnotatedImage(NamedTuple):
    """An image and its annotations; ``name`` is its file name in NFC, without folders if read by ``read_instances``."""

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

    Polygons of fewer than three points, annotations of images that are not listed, and categories that are only
    headings of others are left out, with one line each in the log. Raises ``UserError`` for a file that is not one of
    COCO's instances, for ids that occur twice, unknown categories, and masks that cannot be drawn.
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
    convert: dict[str, Callable[[Any], Any]] = {
        "images": partial(_image, path),
        "annotations": partial(_annotation, path),
    }
    with json_errors(path, ADVICE, missing=f"file not found; {_EXPECTED}"):
        content = parse_sections(read_text(path), convert)
    categories = _categories(path, _section(path, content, "categories"))
    images = _images(path, _section(path, content, "images"), keep_folders=keep_folders)
    annotations = _section(path, content, "annotations")
    _distribute(path, annotations, images, categories)
    headings = _headings(content["categories"], {annotation.category for annotation in annotations})
    for number in headings:
        logger.warning("%s: category %d, '%s', only groups others and is left out", path, number, categories[number])
    classes = {number: name for number, name in categories.items() if number not in headings}
    return Instances(path, sorted(images.values(), key=lambda image: image.name), classes)


def _annotation(path: Path, entry: Any) -> Annotation:
    if not isinstance(entry, dict):
        raise UserError(f"{path}: an annotation is not an object with 'image_id' and 'category_id'; {_EXPECTED}")
    number = checked_value(entry, "id", int, f"{path}: an annotation", ADVICE)
    place = f"{path}: annotation {number}"
    return Annotation(
        id=number,
        image_id=checked_value(entry, "image_id", int, place, ADVICE),
        category=checked_value(entry, "category_id", int, place, ADVICE),
        crowd=bool(entry.get("iscrowd")),
        segmentation=read_segmentation(entry.get("segmentation"), place),
    )


def _image(path: Path, entry: Any) -> AnnotatedImage:
    if not isinstance(entry, dict):
        raise UserError(f"{path}: an image is not an object with 'id' and 'file_name'; {_EXPECTED}")
    number = checked_value(entry, "id", int, f"{path}: an image", ADVICE)
    place = f"{path}: image {number}"
    name = checked_value(entry, "file_name", str, place, ADVICE)
    if _UNWRITABLE.search(name):
        raise UserError(f"{place}: {shown(name)} holds a character that no list of images can hold; {ADVICE}")
    return AnnotatedImage(number, name, *checked_size(entry, "height", "width", place, ADVICE), annotations=[])


def _section(path: Path, content: Any, name: str) -> list[Any]:
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object with 'images', 'annotations' and 'categories'; {_EXPECTED}")
    if name not in content:
        raise UserError(f"{path}: has no '{name}'; {_EXPECTED}")
    return checked_value(content, name, list, str(path), _EXPECTED)


def _categories(path: Path, entries: Iterable[Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise UserError(f"{path}: a category is not an object with 'id' and 'name'; {_EXPECTED}")
        number = checked_value(entry, "id", int, f"{path}: a category", ADVICE)
        place = f"{path}: category {number}"
        if number in categories:
            raise UserError(f"{place}: this id occurs twice; {ADVICE}")
        categories[number] = checked_name(entry, "name", place, ADVICE)
    return categories


def _headings(entries: Sequence[Mapping[str, Any]], used: Collection[int]) -> list[int]:
    """Ids of the categories that no annotation has, and that others name as their supercategory.

    Roboflow writes one for the whole project; its name may be that of a class.
    """
    groups = Counter(entry["supercategory"] for entry in entries if isinstance(entry.get("supercategory"), str))
    return [
        int(entry["id"])
        for entry in entries
        if int(entry["id"]) not in used and groups[entry["name"]] > (entry.get("supercategory") == entry["name"])
    ]


def _images(path: Path, entries: Iterable[AnnotatedImage], *, keep_folders: bool) -> dict[int, AnnotatedImage]:
    """Images by id. Labels are named after images without suffix, and without folders that must be unique as well."""
    images: dict[int, AnnotatedImage] = {}
    taken: set[str] = set()
    for image in entries:
        place = f"{path}: image {image.id}"
        if image.id in images:
            raise UserError(f"{place}: this id occurs twice; {ADVICE}")
        # Folders as Windows writes them, letters and accents as macOS does
        name = PurePosixPath(normalize("NFC", image.name.replace("\\", "/")))
        key = name.as_posix() if keep_folders else name.stem
        if not name.name or key in taken:
            raise UserError(f"{place}: {shown(image.name)} is not a unique file name; {ADVICE}")
        taken.add(key)
        images[image.id] = image._replace(name=name.as_posix() if keep_folders else name.name)
    return images


def _distribute(
    path: Path, entries: Iterable[Annotation], images: Mapping[int, AnnotatedImage], categories: Mapping[int, str]
) -> None:
    """Give every image its annotations, except those that outline nothing, or whose image is not listed."""
    ids: set[int] = set()
    left_out: Counter[str] = Counter()
    for annotation in entries:
        place = f"{path}: annotation {annotation.id}"
        if annotation.id in ids:
            raise UserError(f"{place}: this id occurs twice; {ADVICE}")
        ids.add(annotation.id)
        if annotation.category not in categories:
            raise UserError(f"{place}: category {annotation.category} is not in 'categories'; {ADVICE}")
        image = images.get(annotation.image_id)
        if image is None:
            left_out["annotations are of images that are not in 'images'"] += 1
        elif isinstance(annotation.segmentation, RunLengths):
            _check_size(annotation.segmentation, image, place)
            image.annotations.append(annotation)
        else:
            polygons = [polygon for polygon in annotation.segmentation if polygon.size >= _MIN_NUMBERS]
            left_out["polygons have fewer than three points"] += len(annotation.segmentation) - len(polygons)
            left_out["annotations have no outline"] += not annotation.segmentation
            if polygons:
                image.annotations.append(annotation._replace(segmentation=polygons))
    for reason, count in left_out.items():
        if count:
            logger.warning("%s: %d %s and are left out", path, count, reason)


def _check_size(run_lengths: RunLengths, image: AnnotatedImage, place: str) -> None:
    height, width = run_lengths.size
    if (height, width) != (image.height, image.width):
        raise UserError(
            f"{place}: its run lengths (RLE) are for {width}x{height} pixels, but {image.name} is {image.width}x"
            f"{image.height}; {ADVICE}"
        )
