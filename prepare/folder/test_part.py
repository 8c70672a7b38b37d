"""The test part of a user's dataset and its folds: which classes are held back, and what is there of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from episodes.folds import fold_classes
from util.errors import UserError
from util.logging import logger
from util.seed import python_random

_FOLDS = range(4)
# Photographs of a class for tests of five shots: one is the query.
_ENOUGH = 6
# And for tests of one shot.
_FEWEST = 2
# Classes named in a line of the log.
_LISTED = 10


class Fold(NamedTuple):
    """Classes that are trained on, and those that are held back for the test."""

    number: int
    train: list[int]
    test: list[int]


def possible_folds(name: str, classes: int | None, found: frozenset[int]) -> list[Fold]:
    """The folds of a dataset of so many classes that leave something to train on and to test: ``found`` are there."""
    folds = []
    for number in _FOLDS:
        try:
            train, test = fold_classes(name, number, classes=classes)
        except UserError:  # too few classes for this fold
            continue
        if found & set(train) and found & set(test):
            folds.append(Fold(number, train, test))
    return folds


def draw_test_part(present: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which photographs to test on, ``share`` of them: bool (n,). ``present`` (n, C) says which class is in which.

    Photographs of the class that has fewest in the test come first, until every class has enough for five shots or
    half of its photographs; then any. At least one photograph is drawn and one left.
    """
    count = min(max(1, round(share * len(present))), len(present) - 1)
    order = list(range(len(present)))
    python_random(seed, "test part").shuffle(order)
    shuffled = present[order]
    free = np.ones(len(present), dtype=bool)
    wanted = np.minimum(_ENOUGH, present.sum(axis=0) // 2)
    drawn = np.zeros(present.shape[1], dtype=int)
    for _ in range(count):
        lacking = np.flatnonzero(drawn < wanted)
        useful = free & shuffled[:, lacking[drawn[lacking].argmin()]] if lacking.size else free
        row = int(useful.argmax())
        free[row] = False
        drawn += shuffled[row]
    chosen = np.zeros(len(present), dtype=bool)
    chosen[np.array(order)[~free]] = True
    return chosen


def describe_folds(
    folds: Sequence[Fold], present: Mapping[str, np.ndarray], names: Sequence[str] | None, min_area: int
) -> None:
    """Log what each fold has; warn where a class has too few photographs for episodes of one shot, which take two.

    ``present`` has "train" and "val", each (n, C): which of the classes 1 to C covers ``min_area`` pixels in which
    photograph.
    """
    if not folds:
        logger.info("no fold: that takes objects of at least two classes")
    for fold in folds:
        logger.info(
            "fold %d: trains on %d classes (%s), tests on class %s (%s)",
            *(fold.number, len(fold.train), _extent(present["train"], fold.train)),
            *(_listing([_label(number, names) for number in fold.test]), _extent(present["val"], fold.test)),
        )
    for part, there in present.items():
        counts = enumerate(there.sum(axis=0).tolist(), start=1)
        rare = [f"{_label(number, names)} ({count})" for number, count in counts if count < _FEWEST]
        if rare:
            logger.warning(
                "%s.txt: an episode takes %d photographs with %d pixels of its class; too few are of class %s",
                *(part, _FEWEST, min_area, _listing(rare)),
            )


def _extent(present: np.ndarray, classes: Sequence[int]) -> str:
    """How many photographs of the classes there are, and how many shots an episode of each of them can have."""
    columns = present[:, np.array(classes) - 1]
    shots = max(0, int(columns.sum(axis=0).min()) - 1)
    return f"photographs: {int(columns.any(axis=1).sum())}, shots with each class: {shots} at most"


def _label(number: int, names: Sequence[str] | None) -> str:
    return str(number) if names is None else f"{number} {names[number - 1]}"


def _listing(words: Sequence[str]) -> str:
    return ", ".join(words[:_LISTED]) + (f", and {len(words) - _LISTED} more" if len(words) > _LISTED else "")
