"""What a user's images and masks contain: every file is read in full before anything is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from prepare.folder.mask_sources import LabelMask, Mask
from util.errors import UserError, first_of
from util.images import IGNORE, MAX_CLASSES, check_same_size, read_image
from util.processes import available_cores

_LABELS = 256
# The smallest object of an episode, in pixels, and the usual size of PASCAL's images, for which it is meant.
_MIN_AREA = 2048
_PASCAL_PIXELS = 500 * 375


class Contents(NamedTuple):
    """What is in the files: ``pixels`` (n,) of each image, ``areas`` (n, 256) of each label in its mask, in pixels.

    Without a mask, all areas are 0. ``understood`` has a line for each kind of mask whose pixels are not the labels.
    """

    pixels: np.ndarray
    areas: np.ndarray
    understood: tuple[str, ...]

    @property
    def min_area(self) -> int:
        """Pixels from which an object counts: the same share of the median image as 2,048 of PASCAL's images."""
        return max(1, round(_MIN_AREA / _PASCAL_PIXELS * float(np.median(self.pixels))))

    @property
    def labels(self) -> frozenset[int]:
        """The labels that occur in the masks."""
        return frozenset(np.flatnonzero(self.areas.any(axis=0)).tolist())

    @property
    def white(self) -> np.ndarray:
        """Which masks hold 255 and no class: bool (n,)."""
        return (self.areas[:, IGNORE] > 0) & ~self.areas[:, 1:IGNORE].any(axis=1)

    @property
    def white_is_object(self) -> bool:
        """Whether 255 must be an object, as in masks painted in white: it is beside no class, and none is above 1."""
        has_white = self.areas[:, IGNORE] > 0
        return bool(has_white.any() and self.white[has_white].all() and not self.areas[:, 2:IGNORE].any())

    def with_white_as_object(self) -> Contents:
        """The same with 255 counted as class 1."""
        areas = self.areas.copy()
        areas[:, 1] += areas[:, IGNORE]
        areas[:, IGNORE] = 0
        return self._replace(areas=areas)

    def present(self, classes: int) -> np.ndarray:
        """Which of the classes 1, 2, ... covers ``min_area`` pixels of which image: bool (n, classes)."""
        return self.areas[:, 1 : classes + 1] >= self.min_area


def inspect_files(files: Sequence[tuple[Path, Mask | None]]) -> Contents:
    """Read every image and its mask; raises ``UserError`` that names the first bad file and counts the others."""
    pixels: list[int] = []
    areas: list[np.ndarray] = []
    understood: dict[str, list[Path]] = defaultdict(list)
    problems: list[str] = []
    with ThreadPoolExecutor(available_cores()) as pool:
        inspections = [pool.submit(_inspect, image, mask) for image, mask in files]
        inspected = zip(files, tqdm(inspections, desc="checking", unit="image"), strict=True)
        for (_, mask), inspection in inspected:
            try:
                image_pixels, label_areas, how = inspection.result()
            except UserError as error:
                problems.append(str(error))
                continue
            pixels.append(image_pixels)
            areas.append(label_areas)
            if mask is not None and how:
                understood[how].append(mask.path)
    if problems:
        raise first_of(problems)
    lines = tuple(f"{paths[0]} ({len(paths)} files): {how}" for how, paths in understood.items())
    return Contents(np.array(pixels), np.stack(areas), lines)


def count_classes(
    labels: frozenset[int], masks: Path | None, option: int | None, names: Sequence[str] | None
) -> int | None:
    """Number of object classes: ``option`` (--classes) or that of ``names``, else the highest label in the masks.

    None without any of these. Raises ``UserError`` if they contradict each other, and for masks without an object.
    """
    if names is not None and option not in (None, len(names)):
        raise UserError(f"--classes {option}: {len(names)} classes have names; leave it out")
    expected = option if names is None else len(names)
    if masks is None:
        return expected
    highest = max(labels - {IGNORE}, default=0)
    if highest == 0:
        raise UserError(
            f"{masks}: no object in any mask, only {sorted(labels)}; "
            f"objects are 1 to {MAX_CLASSES}, {IGNORE} is ignored"
        )
    if expected is not None and highest > expected:
        source = f"--classes is {expected}" if names is None else f"--class-names has {expected}"
        raise UserError(f"{masks}: the masks go up to class {highest}, but {source}")
    return expected or highest


def _inspect(image: Path, mask: Mask | None) -> tuple[int, np.ndarray, str]:
    """Pixels of the image, and of each label in its mask, int32 (256,); and how the mask was understood."""
    height, width = read_image(image).shape[:2]
    if mask is None:
        return height * width, np.zeros(_LABELS, dtype=np.int32), ""
    check_same_size(image, (height, width), mask.path, mask.size())
    ids, how = mask.understand() if isinstance(mask, LabelMask) else (mask.read(), "")
    return height * width, np.bincount(ids.ravel(), minlength=_LABELS).astype(np.int32), how
