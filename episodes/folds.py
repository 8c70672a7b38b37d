"""Which classes are trained on and which are held back (docs/method.md, section 10)."""

from __future__ import annotations

import numpy as np

from util.errors import UserError

_FOLDS = 4
_ALL_FOLDS = 5
_PASCAL_CLASSES = 20
_COCO_CLASSES = 80
# What the published code tests on when it trains on all folds of COCO.
_COCO_ALL_FOLDS_TEST = [*range(1, 8), 9, *range(15, 21), 40, 57, 58, 59, 61, 66]


def fold_classes(
    dataset: str, split: int, interleaved: bool = True, *, classes: int | None = None
) -> tuple[list[int], list[int]]:
    """The (train, test) class numbers of a fold, each sorted, counted from 1.

    ``split`` 0 to 3 holds back a quarter of the classes: consecutive ones (PASCAL-5i), or every fourth for
    ``dataset`` "coco" unless ``interleaved`` is False. Split 5 trains and tests on all classes; of an interleaved
    "coco" it tests on twenty of them. Any other dataset has consecutive folds over ``classes`` classes (20 where not
    given), as even as they go: the first ones may have a class more.
    Raises ``UserError`` for another split, or a fold without a class.
    """
    total = _COCO_CLASSES if dataset == "coco" else classes or _PASCAL_CLASSES
    numbers = list(range(1, total + 1))
    if split == _ALL_FOLDS:
        return numbers, list(_COCO_ALL_FOLDS_TEST if dataset == "coco" and interleaved else numbers)
    if split not in range(_FOLDS):
        raise UserError(f"TRAIN.split must be 0, 1, 2, 3 or {_ALL_FOLDS} (all folds), not {split}")
    if dataset == "coco" and interleaved:
        test = numbers[split::_FOLDS]
    else:
        test = np.array_split(numbers, _FOLDS)[split].tolist()
    train = [number for number in numbers if number not in test]
    if not test or not train:
        raise UserError(f"TRAIN.split={split}: {total} classes are too few for this fold; use split {_ALL_FOLDS}")
    return train, test
