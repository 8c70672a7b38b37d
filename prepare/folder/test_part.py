"""The test part of a user's dataset, and its folds: which classes are held back, and how many images show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from episodes.folds import FOLDS, fold_classes
from util.errors import UserError
from util.logging import logger
from util.seed import python_random

# Images of a class that tests of five shots and of one shot need; one of them is the query.
_FIVE_SHOT_IMAGES = 6
_ONE_SHOT_IMAGES = 2
# Where only some images are labelled, a class that fewer of them show is for training alone.
_FEWEST_LABELLED = _FIVE_SHOT_IMAGES
# Classes named in a line of the log.
_LISTED = 10


class Fold(NamedTuple):
    """The classes that are trained on, and those that are held back for the test."""

    number: int
    train: list[int]
    test: list[int]


def possible_folds(name: str, classes: int | None, labels: frozenset[int]) -> list[Fold]:
    """The folds of a dataset of ``classes`` classes that have objects to train on and to test; ``labels`` occur."""
    folds = []
    for number in FOLDS:
        try:
            train, test = fold_classes(name, number, classes=classes)
        except UserError:  # too few classes for this fold
            continue
        if labels & set(train) and labels & set(test):
            folds.append(Fold(number, train, test))
    return folds


def draw_test_part(present: np.ndarray, labelled: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which images to test on, a ``share`` of the ``labelled``, bool (n,): bool (n,).

    ``present``, bool (n, C), is which shows which class. Images of the class that has fewest in the test are drawn
    first, until every class has enough for five shots or half of its images; then any. At least one image is drawn and
    one is left.

    Where some images are not labelled, labels are few: a class with fewer than six images is for training alone, with
    all images that show it, each other class gets two images or more, and without such a class none is drawn.
    """
    if labelled.all():
        return _draw(present, np.arange(len(present)), share, seed, least=np.zeros(present.shape[1], dtype=int))
    is_rare = present.sum(axis=0) < _FEWEST_LABELLED
    rows = np.flatnonzero(labelled & ~present[:, is_rare].any(axis=1))
    is_tested = present[rows].sum(axis=0) >= _FEWEST_LABELLED
    if not is_tested.any():
        return np.zeros(len(present), dtype=bool)
    return _draw(present, rows, share, seed, least=np.where(is_tested, _ONE_SHOT_IMAGES, 0))


def _draw(present: np.ndarray, rows: np.ndarray, share: float, seed: int, *, least: np.ndarray) -> np.ndarray:
    """``draw_test_part`` from ``rows``; as many more as are needed for ``least``, int (C,), images of each class."""
    # Shuffle the images
    count = min(max(1, round(share * len(rows))), len(rows) - 1)
    order = rows.tolist()
    python_random(seed, "test part").shuffle(order)
    shuffled = present[order]

    # Draw the first free image that shows the rarest class which still lacks images
    free = np.ones(len(rows), dtype=bool)
    target = np.minimum(_FIVE_SHOT_IMAGES, shuffled.sum(axis=0) // 2)
    drawn = np.zeros(present.shape[1], dtype=int)
    while np.count_nonzero(~free) < count or (drawn < least).any():
        lacking = np.flatnonzero(drawn < target)
        useful = free & shuffled[:, lacking[drawn[lacking].argmin()]] if lacking.size else free
        row = int(useful.argmax())
        free[row] = False
        drawn += shuffled[row]

    # Back to the original order
    chosen = np.zeros(len(present), dtype=bool)
    chosen[np.array(order)[~free]] = True
    return chosen


def describe_folds(
    folds: Sequence[Fold], present: Mapping[str, np.ndarray], names: Sequence[str] | None, min_area: int
) -> None:
    """Log what each fold has, or why there is none; warn of classes with too few images for episodes, which need two.

    ``present`` has "train" and, where there is a test part, "val", each bool (n, C): which of the classes 1 to C covers
    ``min_area`` pixels of which image.
    """
    if "val" not in present:
        logger.info("no test: no class is shown by %d images with masks; all images are for training", _FEWEST_LABELLED)
    elif not folds:
        logger.info(
            "no fold, which needs objects of two classes, one of them held back; experiments ssl_* and joint_* need no "
            "fold: they test on the class itself (%s)",
            _extent(present["val"], range(1, present["val"].shape[1] + 1)),
        )
    for fold in folds:
        logger.info(
            "fold %d: trains on %d classes (%s), tests on class %s (%s)",
            *(fold.number, len(fold.train), _extent(present["train"], fold.train)),
            *(_listing([_label(number, names) for number in fold.test]), _extent(present["val"], fold.test)),
        )
    for part, shown in present.items():
        counts = enumerate(shown.sum(axis=0).tolist(), start=1)
        rare = [f"{_label(number, names)} ({count})" for number, count in counts if count < _ONE_SHOT_IMAGES]
        if rare:
            logger.warning(
                "%s.txt: an episode needs %d images with %d pixels of its class; too few show class %s",
                *(part, _ONE_SHOT_IMAGES, min_area, _listing(rare)),
            )


def _extent(present: np.ndarray, classes: Sequence[int]) -> str:
    """How many images show the classes, and how many shots an episode of any of them can have."""
    columns = present[:, np.array(classes) - 1]
    shots = max(0, int(columns.sum(axis=0).min()) - 1)
    return f"images: {int(columns.any(axis=1).sum())}, shots with each class: {shots} at most"


def _label(number: int, names: Sequence[str] | None) -> str:
    return str(number) if names is None else f"{number} {names[number - 1]}"


def _listing(classes: Sequence[str]) -> str:
    return ", ".join(classes[:_LISTED]) + (f", and {len(classes) - _LISTED} more" if len(classes) > _LISTED else "")
