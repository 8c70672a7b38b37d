"""Masks from one JSON in COCO's format about a user's own images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

import numpy as np

from episodes.class_names import checked_names
from prepare.coco.annotations import AnnotatedImage, read_own_instances
from prepare.coco.drawing import draw_label
from util.errors import UserError
from util.logging import logger


class CocoMask(NamedTuple):
    """The mask of an image from its annotations; ``classes`` maps category ids to classes."""

    path: Path
    annotated: AnnotatedImage
    classes: Mapping[int, int]

    def size(self) -> tuple[int, int]:
        return self.annotated.height, self.annotated.width

    def read(self) -> np.ndarray:
        """The label map, uint8 (H, W), drawn as for COCO; without an annotation it is all background.

        Crowds are labelled with their class: many tools call every mask that is not a polygon a crowd.
        """
        if not self.annotated.annotations:
            return np.zeros(self.size(), dtype=np.uint8)
        return draw_label(self.annotated, self.classes, ignore_crowds=False)


def read_coco(annotations: Path, images: Path, paths: Sequence[Path]) -> tuple[tuple[str, ...], dict[Path, CocoMask]]:
    """The names of classes 1, 2, ..., which are the categories sorted by id, and the mask of each image in the file.

    An image is found by its path below ``images``, else by its file name alone. Listed images that are missing are left
    out, with one line in the log. Raises ``UserError`` for a file that ``read_own_instances`` refuses, for names that
    may mean several images, and if none of ``paths`` is listed.
    """
    instances = read_own_instances(annotations)
    ids = sorted(instances.categories)
    names = checked_names([instances.categories[number] for number in ids], annotations)
    classes = {number: row for row, number in enumerate(ids, start=1)}
    matches = _match(annotations, instances.images, {path: path.relative_to(images).as_posix() for path in paths})
    if not matches:
        raise UserError(f"{annotations}: none of the {len(paths)} images in {images} is among its 'images'")
    lacking = len(instances.images) - len(matches)
    if lacking:
        logger.warning("%s: %d of its images are not in %s and are left out", annotations, lacking, images)
    return names, {path: CocoMask(annotations, image, classes) for path, image in matches.items()}


def _match(
    annotations: Path, images: Sequence[AnnotatedImage], relative: Mapping[Path, str]
) -> dict[Path, AnnotatedImage]:
    """The listed image of each file that has one; ``relative`` are the files' paths below their folder."""
    by_path = {image.name: image for image in images}
    by_name: dict[str, list[AnnotatedImage]] = defaultdict(list)
    for image in images:
        by_name[image.name.rpartition("/")[2]].append(image)
    matches: dict[Path, AnnotatedImage] = {}
    owners: dict[int, Path] = {}
    for path, name in relative.items():
        name = normalize("NFC", name)  # as in the file; macOS takes letters and accents apart
        candidates = [by_path[name]] if name in by_path else by_name[name.rpartition("/")[2]]
        if not candidates:
            continue
        if len(candidates) > 1:
            raise UserError(
                f"{annotations}: lists {candidates[0].name} and {candidates[1].name}, either may be {path}; "
                "arrange the images as in the file"
            )
        first = owners.setdefault(candidates[0].id, path)
        if first != path:
            raise UserError(
                f"{annotations}: {candidates[0].name} may be {first} or {path}; arrange the images as in the file"
            )
        matches[path] = candidates[0]
    return matches
