"""The objects of each class in a few annotated images, from labelme's JSONs or COCO's: supports of ``predict.py``."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from prepare.folder.coco_json import read_coco
from prepare.folder.labelme import read_labelme
from prepare.folder.mask_sources import Mask
from util.errors import UserError
from util.files import read_json_object
from util.images import IGNORE

# The names of classes 1, 2, ... and the masks of some of the images.
_Part: TypeAlias = "tuple[Sequence[str], Mapping[Path, Mask]]"


class AnnotatedObjects(NamedTuple):
    """What the JSON ``source`` marks of one class in an image: uint8 (H, W) of 0, 1 and 255, not counted."""

    image: Path
    source: Path
    mask: np.ndarray


def read_annotated_classes(pairs: Sequence[tuple[Path, Path]]) -> dict[str, list[AnnotatedObjects]]:
    """The images of each class, which is called as in the JSONs, in alphabetical order; ``pairs`` of image and JSON.

    A JSON of COCO may be that of several images. Pixels of other classes are background. Raises ``UserError`` for what
    ``read_labelme`` and ``read_coco`` refuse, and for an image in which nothing is marked.
    """
    labelmes = [pair for pair in pairs if _is_labelme(pair[1])]
    parts = [_of_labelme(labelmes)] if labelmes else []
    for source in dict.fromkeys(source for image, source in pairs if (image, source) not in labelmes):
        images = [image for image, of_image in pairs if of_image == source]
        parts.append(read_coco(source, Path(os.path.commonpath([image.parent for image in images])), images))
    classes: dict[str, list[AnnotatedObjects]] = defaultdict(list)
    for image, source in pairs:
        names, masks = next((part for part in parts if image in part[1]), ((), {}))
        if image not in masks:
            raise UserError(f"{source}: does not list {image.name}; annotate it or take it out of the supports")
        for number, objects in _objects(image, masks[image]).items():
            classes[names[number - 1]].append(AnnotatedObjects(image, source, objects))
    return dict(sorted(classes.items()))


def _is_labelme(source: Path) -> bool:
    return "shapes" in read_json_object(source, advice="expected a JSON of labelme, or one in COCO's format")


def _of_labelme(pairs: Sequence[tuple[Path, Path]]) -> _Part:
    names, masks = read_labelme([source for _, source in pairs], None, workers=1)
    return names, dict(zip((image for image, _ in pairs), masks, strict=True))


def _objects(image: Path, mask: Mask) -> dict[int, np.ndarray]:
    """A mask for each class that is there."""
    ids = mask.read()
    void = np.where(ids == IGNORE, ids, 0)
    numbers = [number for number in np.unique(ids).tolist() if number not in (0, IGNORE)]
    if not numbers:
        raise UserError(f"{mask.path}: marks no object in {image.name}; annotate it or take it out of the supports")
    return {number: np.where(ids == number, np.uint8(1), void) for number in numbers}
