"""Folds against the class numbers that papers print."""

from __future__ import annotations

import pytest

from episodes.folds import describe_label_use, fold_classes, splits_in
from util.errors import UserError


@pytest.mark.parametrize("split", range(4))
def test_pascal_folds_are_five_consecutive_classes(split: int) -> None:
    train, test = fold_classes("pascal", split)
    assert test == [5 * split + 1, 5 * split + 2, 5 * split + 3, 5 * split + 4, 5 * split + 5]
    assert sorted(train + test) == list(range(1, 21))
    assert train == sorted(train)


def test_coco_folds_take_every_fourth_class() -> None:
    assert fold_classes("coco", 0)[1][:3] == [1, 5, 9]
    assert fold_classes("coco", 3)[1] == list(range(4, 81, 4))
    assert len(fold_classes("coco", 2)[0]) == 60
    assert sorted(number for split in range(4) for number in fold_classes("coco", split)[1]) == list(range(1, 81))


def test_coco_folds_can_be_contiguous() -> None:
    train, test = fold_classes("coco", 1, interleaved=False)
    assert test == list(range(21, 41))
    assert train == [*range(1, 21), *range(41, 81)]


@pytest.mark.parametrize(("dataset", "classes"), [("pascal", 20), ("coco", 80), ("shapes", 20)])
def test_split_five_is_all_classes(dataset: str, classes: int) -> None:
    train, test = fold_classes(dataset, 5, interleaved=False)
    assert train == test == list(range(1, classes + 1))
    assert train is not test


def test_split_five_of_interleaved_coco_tests_on_twenty_classes() -> None:
    train, test = fold_classes("coco", 5)
    assert train == list(range(1, 81))
    assert test == [1, 2, 3, 4, 5, 6, 7, 9, 15, 16, 17, 18, 19, 20, 40, 57, 58, 59, 61, 66]


def test_other_names_have_the_folds_of_pascal() -> None:
    assert fold_classes("cells", 2) == fold_classes("pascal", 2)


@pytest.mark.parametrize("classes", range(4, 255))
def test_folds_of_any_number_of_classes_are_even(classes: int) -> None:
    folds = [fold_classes("cells", split, classes=classes) for split in range(4)]
    assert [number for _, test in folds for number in test] == list(range(1, classes + 1))
    sizes = [len(test) for _, test in folds]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] - sizes[3] <= 1
    assert all(sorted(train + test) == list(range(1, classes + 1)) for train, test in folds)


def test_folds_of_few_classes() -> None:
    assert [fold_classes("cells", split, classes=6)[1] for split in range(4)] == [[1, 2], [3, 4], [5], [6]]
    assert fold_classes("cells", 1, classes=6)[0] == [1, 2, 5, 6]
    assert [fold_classes("cells", split, classes=3)[1] for split in range(3)] == [[1], [2], [3]]
    with pytest.raises(UserError, match="3 classes are too few for this fold"):
        fold_classes("cells", 3, classes=3)
    with pytest.raises(UserError, match="1 classes are too few for this fold"):
        fold_classes("cells", 0, classes=1)


@pytest.mark.parametrize("split", [-1, 4, 6])
def test_another_split_is_a_user_error(split: int) -> None:
    with pytest.raises(UserError, match=f"TRAIN.split must be .* not {split}"):
        fold_classes("pascal", split)


def test_the_labels_that_a_checkpoint_states() -> None:
    stated = [describe_label_use(split) for split in (0, 3, 5)]
    assert [splits_in(use) for use in (*stated, ", ".join(stated), "none")] == [[0], [3], [5], [0, 3, 5], []]
    assert splits_in("fold 5 training classes") == [5]  # of networks that were trained before these had a name
    assert splits_in("all classes; chosen by the labels of val.txt") == [5]
