"""COCO's categories and the classes they become."""

from __future__ import annotations

from pathlib import Path

import pytest

from prepare.coco.annotations import Instances
from prepare.coco.classes import number_classes
from util.errors import UserError

# From the published list: class 12 is the stop sign (13), 80 the toothbrush (90).
OFFICIAL = [
    *range(1, 12),
    *range(13, 26),
    27,
    28,
    *range(31, 45),
    *range(46, 66),
    67,
    70,
    *range(72, 83),
    *range(84, 91),
]


def listing(*ids: int, path: str = "a.json", name: str = "thing") -> Instances:
    return Instances(Path(path), [], {number: f"{name} {number}" for number in ids})


def test_coco_has_80_classes_without_gaps() -> None:
    classes = number_classes([listing(*OFFICIAL)])
    assert list(classes.values()) == list(range(1, 81))
    assert [classes[number] for number in (1, 13, 27, 90)] == [1, 12, 25, 80]


def test_a_part_of_the_categories_keeps_their_numbers(messages: list[str]) -> None:
    assert number_classes([listing(90, 1, 13)]) == {1: 1, 13: 12, 90: 80}
    assert not messages


def test_other_categories_are_numbered_by_id_with_one_line(messages: list[str]) -> None:
    assert number_classes([listing(200, 0, 12)]) == {0: 1, 12: 2, 200: 3}
    assert messages == [
        "a.json: its categories are not COCO's and become classes 1 to 3 by id, but the folds of coco are "
        "of 80 classes; `python -m prepare folder IMAGES --masks JSON --name NAME` makes a dataset with folds of "
        "its own"
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([listing(*range(80))], "a.json: 80 categories, but 0 is none of COCO's ids"),
        ([listing(*range(255))], "a.json: 255 categories; labels have room for 254"),
        ([listing(1, 3), listing(1, 3, 4, path="b.json")], "b.json: category 4 is not as in a.json; both must list"),
        ([listing(1), listing(1, path="b.json", name="other")], "b.json: category 1 is not as in a.json"),
    ],
)
def test_categories_that_cannot_be(files: list[Instances], message: str) -> None:
    with pytest.raises(UserError, match=message):
        number_classes(files)
