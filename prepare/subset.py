"""Draw a share of a training list, for training with fewer labels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from episodes.label_index import label_areas
from episodes.lists import ImageList, read_list, write_list
from util.arguments import whole_number
from util.errors import UserError
from util.logging import logger
from util.seed import python_random

_VOID = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m prepare subset``."""
    parser.add_argument("list", type=Path, metavar="LIST", help="training list, 'IMAGE LABEL' a line")
    parser.add_argument("--root", type=Path, required=True, help="what the list's names start from (DATA.data_root)")
    parser.add_argument("--percent", type=_percent, required=True, help="of the list that is kept, like 20 or 0.5")
    parser.add_argument("--shots", type=whole_number(1), default=5, help="warn where a class has fewer and a query")
    parser.add_argument("--min-area", type=whole_number(1), default=2048, help="of an object, DATA.min_area")
    parser.add_argument("--seed", type=whole_number(0), default=123, help="another seed, other images (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Write ``LIST_PERCENT.txt`` beside the list, and name the classes that have become too rare for episodes.

    Raises ``UserError`` for a list that cannot be read, or of which nothing is left.
    """
    images = read_list(arguments.list, arguments.root, need_labels=True)
    rows = draw_rows(images, arguments.percent, arguments.seed)
    if not rows:
        raise UserError(f"--percent {arguments.percent:g}: nothing is left of {len(images)} images")
    path = arguments.list.with_name(f"{arguments.list.stem}_{arguments.percent:g}{arguments.list.suffix}")
    write_list(path, [(images.images[row], images.labels[row]) for row in rows])
    logger.info("%s: %d of %d images", path, len(rows), len(images))
    _warn_of_rare_classes(label_areas(images), rows, shots=arguments.shots, min_area=arguments.min_area)


def draw_rows(images: ImageList, percent: float, seed: int) -> list[int]:
    """Rows of floor(n * percent / 100) images, rising.

    They depend on names and seed alone, not on the order of the list; a smaller share is part of a larger one.
    """
    order = sorted(range(len(images)), key=lambda row: Path(images.images[row]).stem)
    python_random(seed, "subset").shuffle(order)
    return sorted(order[: int(len(images) * percent / 100)])


def _warn_of_rare_classes(areas: np.ndarray, rows: Sequence[int], *, shots: int, min_area: int) -> None:
    """``areas`` (n, 256) of the whole list, ``rows`` of the subset: names classes that the list has, and it hardly."""
    counts = (areas[rows] >= min_area).sum(axis=0)
    rare = [number for number in range(1, _VOID) if areas[:, number].any() and counts[number] <= shots]
    if rare:
        listing = ", ".join(f"{number} ({counts[number]} images)" for number in rare)
        logger.warning(
            "too few for episodes of %d shots, which take %d images with %d pixels of the class: class %s",
            *(shots, shots + 1, min_area, listing),
        )


def _percent(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 100:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number between 0 and 100, like 20")
    return number
