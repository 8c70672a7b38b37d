"""Which classes are trained on and which are held back (docs/method.md, section 10)."""

from __future__ import annotations

import re

import numpy as np

from episodes.protocols import protocol
from util.errors import UserError

FOLDS = range(4)
ALL_FOLDS = 5
"""The split that trains and tests on all classes."""

_ALL_CLASSES = "all classes"
_DEFAULT_CLASSES = 20


def fold_classes(
    dataset: str, split: int, interleaved: bool = True, *, classes: int | None = None
) -> tuple[list[int], list[int]]:
    """The (train, test) class numbers of a fold, each sorted, counted from 1.

    ``split`` 0 to 3 holds back a quarter of the classes, as evenly as possible: consecutive ones (PASCAL-5i), or every
    fourth where the dataset's protocol and ``interleaved`` say so (COCO-20i). Split 5 trains and tests on all classes;
    interleaved COCO tests on twenty of them. ``classes`` is the number of classes (default 20) unless the protocol
    fixes it. Raises ``UserError`` for any other split and for a fold without a class.
    """
    rules = protocol(dataset)
    total = rules.classes or classes or _DEFAULT_CLASSES
    interleaved = interleaved and rules.interleaved
    numbers = list(range(1, total + 1))
    if split == ALL_FOLDS:
        tested = rules.all_folds_test if interleaved else None
        return numbers, list(tested or numbers)
    if split not in FOLDS:
        raise UserError(f"TRAIN.split must be 0, 1, 2, 3 or {ALL_FOLDS} (all folds), not {split}")
    if interleaved:
        test = numbers[split :: len(FOLDS)]
    else:
        test = np.array_split(numbers, len(FOLDS))[split].tolist()
    train = [number for number in numbers if number not in test]
    if not test or not train:
        raise UserError(f"TRAIN.split={split}: {total} classes are too few for this fold; use split {ALL_FOLDS}")
    return train, test


def describe_label_use(split: int) -> str:
    """Which labels training on a fold uses, as checkpoints state it."""
    return _ALL_CLASSES if split == ALL_FOLDS else f"fold {split} training classes"


def splits_in(label_use: str) -> list[int]:
    """The splits of all ``describe_label_use`` in the statement of a checkpoint, also of earlier ones for all folds."""
    splits = [int(split) for split in re.findall(r"fold (\d) training classes", label_use)]
    return [*splits, ALL_FOLDS] if _ALL_CLASSES in label_use else splits
