"""Finding the images of a user's folder, and naming them in the dataset."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from util.errors import UserError
from util.images import IMAGE_SUFFIXES
from util.images.image_folders import list_images


def find_own_images(images: Path, masks: Path | None) -> list[Path]:
    """The image files below ``images``, sorted, without those in the folder ``masks`` if that lies among them.

    Raises ``UserError`` if there is none, and if the folder of images lies in that of the masks.
    """
    paths = list_images(images)
    if masks is not None and masks.resolve() != images.resolve():
        if images.resolve().is_relative_to(masks.resolve()):
            raise UserError(f"--masks {masks}: contains the folder of images {images}; name the folder of masks alone")
        paths = [path for path in paths if not path.parent.resolve().is_relative_to(masks.resolve())]
    if not paths:
        raise UserError(f"{images}: no images in this folder; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
    return paths


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for each relative path: its stem; if several share that, with the folders before it; then a number.

    Labels and pseudo masks are found by this name, so names must differ by more than case, which some disks ignore.
    """
    stems = [_writable(path.stem) for path in paths]
    counts = Counter(stem.lower() for stem in stems)
    names: list[str] = []
    taken: set[str] = set()
    for path, stem in zip(paths, stems, strict=True):
        name = stem if counts[stem.lower()] == 1 else _writable("-".join(path.with_suffix("").parts))
        numbered, number = name, 1
        while numbered.lower() in taken:
            number += 1
            numbered = f"{name}_{number}"
        taken.add(numbered.lower())
        names.append(numbered)
    return names


def _writable(name: str) -> str:
    """The name without blanks and without what is not UTF-8, which no list can hold."""
    return re.sub(r"[\s\ud800-\udfff]+", "_", name)
