"""The classes of COCO-20i: 1 to 80 without gaps, in the order of COCO's category ids, which go up to 90."""

from __future__ import annotations

from collections.abc import Sequence

from prepare.coco.annotations import Instances
from util.errors import UserError
from util.images import MAX_CLASSES
from util.logging import logger

_UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
_COCO_IDS = [number for number in range(1, 91) if number not in _UNUSED_IDS]


def number_classes(files: Sequence[Instances]) -> dict[int, int]:
    """The class of each category id: numbered as in COCO-20i if all ids are COCO's, else 1, 2, ... in ascending order.

    Raises ``UserError`` if the files list different categories, 80 that are not COCO's, or more than 254.
    """
    first = files[0]
    for other in files[1:]:
        different = first.categories.items() ^ other.categories.items()
        if different:
            number = min(different)[0]
            raise UserError(f"{other.path}: category {number} is not as in {first.path}; both must list the same")
    ids = sorted(first.categories)
    if set(ids) <= set(_COCO_IDS):
        return {number: _COCO_IDS.index(number) + 1 for number in ids}
    if len(ids) == len(_COCO_IDS):
        unknown = min(set(ids) - set(_COCO_IDS))
        raise UserError(f"{first.path}: 80 categories, but {unknown} is none of COCO's ids (1 to 90 with gaps)")
    if len(ids) > MAX_CLASSES:
        raise UserError(f"{first.path}: {len(ids)} categories; labels have room for {MAX_CLASSES}")
    logger.warning(
        "%s: its categories are not COCO's and become classes 1 to %d by id, but the folds of coco are of 80 classes; "
        "`python -m prepare folder IMAGES --masks JSON --name NAME` makes a dataset with folds of its own",
        *(first.path, len(ids)),
    )
    return {number: row for row, number in enumerate(ids, start=1)}
