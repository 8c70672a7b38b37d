"""Draw a share of a training list, for training with fewer labels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from episodes.label_index import LabelAreas, label_areas
from episodes.lists import ImageList, read_list, write_list
from util.arguments import number_between, whole_number
from util.errors import UserError
from util.images import IGNORE
from util.logging import logger
from util.seed import python_random

# Percent of a training list.
SHARES = (5, 10, 20)
_SEED = 123


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m prepare subset``."""
    parser.add_argument("list", type=Path, metavar="LIST", help="training list, 'IMAGE LABEL' a line")
    parser.add_argument("--root", type=Path, required=True, help="what the list's names start from (DATA.data_root)")
    parser.add_argument(
        "--percent", type=number_between(0, 100, "20"), required=True, help="of the list that is kept, like 20 or 0.5"
    )
    parser.add_argument("--shots", type=whole_number(1), default=5, help="warn where a class has fewer and a query")
    parser.add_argument("--min-area", type=whole_number(1), default=2048, help="of an object, DATA.min_area")
    parser.add_argument("--seed", type=whole_number(0), default=_SEED, help="another seed, other images (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Write ``LIST_PERCENT.txt`` beside the list, and name the classes that have become too rare for episodes.

    Raises ``UserError`` for a list that cannot be read, or of which nothing is left.
    """
    images = read_list(arguments.list, arguments.root, need_labels=True)
    rows = write_subset(images, arguments.percent, arguments.seed)
    _warn_of_rare_classes(label_areas(images), rows, shots=arguments.shots, min_area=arguments.min_area)


def write_subset(images: ImageList, percent: float, seed: int) -> list[int]:
    """Write ``LIST_PERCENT.txt`` beside the list that ``images`` was read from; returns the rows it holds, rising.

    Raises ``UserError`` when nothing is left.
    """
    rows = draw_rows(images, percent, seed)
    if not rows:
        raise UserError(f"--percent {percent:g}: nothing is left of {len(images)} images")
    path = images.list_file.with_name(f"{images.list_file.stem}_{percent:g}{images.list_file.suffix}")
    write_list(path, [(images.images[row], images.labels[row]) for row in rows])
    logger.info("%s: %d of %d images", path, len(rows), len(images))
    return rows


def write_shares(images: ImageList) -> None:
    """Write the subsets that papers use beside the training list, but those of a small list that would be empty."""
    for percent in SHARES:
        if draw_rows(images, percent, _SEED):
            write_subset(images, percent, _SEED)


def draw_rows(images: ImageList, percent: float, seed: int) -> list[int]:
    """Rows of floor(n * percent / 100) images, rising.

    They depend on names and seed alone, not on the order of the list; a smaller share is part of a larger one.
    """
    order = sorted(range(len(images)), key=lambda row: Path(images.images[row]).stem)
    python_random(seed, "subset").shuffle(order)
    return sorted(order[: int(len(images) * percent / 100)])


def _warn_of_rare_classes(areas: LabelAreas, rows: Sequence[int], *, shots: int, min_area: int) -> None:
    """``areas`` of the whole list, ``rows`` of the subset: names classes that the list has, and it hardly."""
    kept = np.isin(areas.image, rows) & (areas.area >= min_area)
    counts = np.bincount(areas.label[kept], minlength=256)
    rare = [number for number in np.unique(areas.label) if 0 < number < IGNORE and counts[number] <= shots]
    if rare:
        listing = ", ".join(f"{number} ({counts[number]} images)" for number in rare)
        logger.warning(
            "too few for episodes of %d shots, which take %d images with %d pixels (--min-area) of the class: class %s",
            *(shots, shots + 1, min_area, listing),
        )
