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
    parser.add_argument("list", type=Path, metavar="LIST", help="training list, one 'IMAGE LABEL' per line")
    parser.add_argument("--root", type=Path, required=True, help="where the list's paths start (DATA.data_root)")
    parser.add_argument(
        "--percent", type=number_between(0, 100, "20"), required=True, help="share of the list to keep, like 20 or 0.5"
    )
    parser.add_argument(
        "--shots",
        type=whole_number(1),
        default=5,
        help="warn about classes too rare for a query and this many supports (%(default)s)",
    )
    parser.add_argument(
        "--min-area", type=whole_number(1), default=2048, help="pixels of an object, DATA.min_area (%(default)s)"
    )
    parser.add_argument("--seed", type=whole_number(0), default=_SEED, help="draws the images (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Write ``LIST_PERCENT.txt`` next to the list, and name the classes that have become too rare for episodes.

    Raises ``UserError`` for a list that cannot be read and when nothing is left of it.
    """
    images = read_list(arguments.list, arguments.root, need_labels=True)
    rows = write_subset(images, arguments.percent, arguments.seed)
    _warn_of_rare_classes(label_areas(images), rows, shots=arguments.shots, min_area=arguments.min_area)


def write_subset(images: ImageList, percent: float, seed: int) -> list[int]:
    """Write ``LIST_PERCENT.txt`` next to the list that ``images`` was read from; returns its rows, ascending.

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
    """Write the subsets that papers use next to the training list, except those that would be empty."""
    for percent in SHARES:
        if draw_rows(images, percent, _SEED):
            write_subset(images, percent, _SEED)


def draw_rows(images: ImageList, percent: float, seed: int) -> list[int]:
    """Rows of floor(n * percent / 100) images, ascending.

    They depend on the file names and the seed only, not on the order of the list; a smaller share is part of a larger
    one.
    """
    order = sorted(range(len(images)), key=lambda row: Path(images.images[row]).stem)
    python_random(seed, "subset").shuffle(order)
    return sorted(order[: int(len(images) * percent / 100)])


def _warn_of_rare_classes(areas: LabelAreas, rows: Sequence[int], *, shots: int, min_area: int) -> None:
    """Name the classes of the list that are too rare in the subset; ``areas`` of the list, ``rows`` of the subset."""
    kept = np.isin(areas.image, rows) & (areas.area >= min_area)
    counts = np.bincount(areas.label[kept], minlength=256)
    rare = [number for number in np.unique(areas.label) if 0 < number < IGNORE and counts[number] <= shots]
    if rare:
        listing = ", ".join(f"{number} ({counts[number]} images)" for number in rare)
        logger.warning(
            "too few for episodes of %d shots, which need %d images with %d pixels (--min-area) of the class: class %s",
            *(shots, shots + 1, min_area, listing),
        )
