"""Finding photographs in a user's folder, and naming them in the dataset."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from util.errors import UserError
from util.images import IMAGE_SUFFIXES, find_files


def find_images(images: Path, masks: Path | None) -> list[Path]:
    """The images below ``images`` in alphabetical order, without those of a folder of masks among them.

    Raises ``UserError`` where there is none, and where the photographs' folder lies in that of the masks.
    """
    paths = find_files(images, IMAGE_SUFFIXES)
    if masks is not None and masks.resolve() != images.resolve():
        if images.resolve().is_relative_to(masks.resolve()):
            raise UserError(f"--masks {masks}: holds the photographs' folder {images}; name the folder of masks alone")
        paths = [path for path in paths if not path.parent.resolve().is_relative_to(masks.resolve())]
    if not paths:
        raise UserError(f"{images}: no images in this folder; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
    return paths


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for each relative path: its stem; where several share that, the folders before it; then a number.

    Labels and pseudo masks are found by this name, so case alone must not tell two apart (some disks ignore it).
    """
    stems = [_without_blanks(path.stem) for path in paths]
    counts = Counter(stem.lower() for stem in stems)
    names: list[str] = []
    taken: set[str] = set()
    for path, stem in zip(paths, stems, strict=True):
        name = stem if counts[stem.lower()] == 1 else _without_blanks("-".join(path.with_suffix("").parts))
        numbered, number = name, 1
        while numbered.lower() in taken:
            number += 1
            numbered = f"{name}_{number}"
        taken.add(numbered.lower())
        names.append(numbered)
    return names


def _without_blanks(name: str) -> str:
    return re.sub(r"\s+", "_", name)
