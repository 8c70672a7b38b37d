"""The test part and the folds of a user's dataset, and what is logged about them."""

from __future__ import annotations

import numpy as np
import pytest

from prepare.folder.test_part import Fold, describe_folds, draw_test_part, possible_folds
from util.logging import start_logging


def random_present(seed: int, images: int, classes: int) -> np.ndarray:
    """Some classes in nearly all images, some in nearly none."""
    rng = np.random.default_rng(seed)
    return rng.random((images, classes)) < rng.random(classes) ** 3


def every(present: np.ndarray) -> np.ndarray:
    """Every image has a label."""
    return np.ones(len(present), dtype=bool)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_the_test_part_has_its_share_and_depends_on_the_seed_only(seed: int, share: float) -> None:
    present = random_present(seed, 57, 9)
    chosen = draw_test_part(present, every(present), share, seed)
    assert chosen.dtype == bool and chosen.shape == (57,)
    assert chosen.sum() == min(max(1, round(share * 57)), 56)
    np.testing.assert_array_equal(draw_test_part(present, every(present), share, seed), chosen)
    assert not np.array_equal(
        draw_test_part(present, every(present), 0.5, seed + 1), draw_test_part(present, every(present), 0.5, seed)
    )


@pytest.mark.parametrize("seed", range(10))
def test_every_class_has_enough_in_both_parts_where_there_is_room(seed: int) -> None:
    present = random_present(seed, 200, 8)
    chosen = draw_test_part(present, every(present), 0.4, seed)  # 80 images, more than 6 for each of 8 classes
    total, tested = present.sum(axis=0), present[chosen].sum(axis=0)
    assert np.all(tested >= np.minimum(6, total // 2))


def test_a_small_part_is_shared_evenly() -> None:
    present = np.repeat(np.eye(4, dtype=bool), [100, 100, 100, 10], axis=0)
    chosen = draw_test_part(present, every(present), 12 / 310, 3)
    assert present[chosen].sum(axis=0).tolist() == [3, 3, 3, 3]


def test_rare_classes_keep_half_for_training() -> None:
    present = np.repeat(np.eye(3, dtype=bool), [50, 5, 1], axis=0)
    chosen = draw_test_part(present, every(present), 8 / 56, 3)
    assert present[chosen].sum(axis=0).tolist() == [6, 2, 0]


def test_images_without_objects_are_drawn_too() -> None:
    chosen = draw_test_part(np.zeros((10, 3), dtype=bool), np.ones(10, dtype=bool), 0.3, 0)
    assert chosen.sum() == 3


@pytest.mark.parametrize("seed", range(10))
def test_few_labels_give_a_test_of_the_classes_that_have_six(seed: int) -> None:
    """Of 60 images 30 are labelled: 20 show class 1, 6 class 2, 3 class 3, one of them class 1 too, one nothing."""
    present = np.zeros((60, 3), dtype=bool)
    present[:20, 0], present[20:26, 1], present[26:29, 2], present[28, 0] = True, True, True, True
    labelled = np.arange(60) < 30
    for share in (0.01, 0.2):
        chosen = draw_test_part(present, labelled, share, seed)
        assert not chosen[~labelled].any() and not chosen[present[:, 2]].any()
        assert (present[chosen].sum(axis=0)[:2] >= 2).all() and (present[labelled & ~chosen].sum(axis=0) >= 3).all()
        assert chosen.sum() == max(4, round(share * 27))
    np.testing.assert_array_equal(
        draw_test_part(present, labelled, 0.2, seed), draw_test_part(present, labelled, 0.2, seed)
    )


@pytest.mark.parametrize("images", [1, 5, 6])
def test_fewer_than_six_labels_are_all_for_training(images: int) -> None:
    present = (np.arange(40) < images)[:, None]
    assert draw_test_part(present, present[:, 0], 0.5, 3).sum() == (3 if images == 6 else 0)


def test_images_of_rare_classes_leave_no_test_where_they_are_needed() -> None:
    """Six images show class 1, but one of them is the only one of class 2."""
    present = np.zeros((9, 2), dtype=bool)
    present[:6, 0], present[0, 1] = True, True
    assert not draw_test_part(present, np.arange(9) < 6, 0.5, 0).any()


def logged(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of the log without their times."""
    return [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]


def test_possible_folds_have_classes_on_both_sides() -> None:
    assert possible_folds("cells", 5, frozenset({0, 1, 2, 3, 4, 5, 255})) == [
        Fold(0, [3, 4, 5], [1, 2]),
        Fold(1, [1, 2, 4, 5], [3]),
        Fold(2, [1, 2, 3, 5], [4]),
        Fold(3, [1, 2, 3, 4], [5]),
    ]
    assert [fold.number for fold in possible_folds("cells", 5, frozenset({0, 2, 4}))] == [0, 2]
    assert [fold.number for fold in possible_folds("cells", 3, frozenset({1, 2, 3}))] == [0, 1, 2]
    assert possible_folds("cells", 1, frozenset({0, 1})) == []
    assert possible_folds("cells", 8, frozenset({0, 7, 255})) == []


def test_what_is_logged_about_folds(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging()
    train = np.repeat(np.eye(3, dtype=bool), [4, 3, 2], axis=0)
    val = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=bool)
    folds = possible_folds("cells", 3, frozenset({1, 2, 3}))
    describe_folds(folds, {"train": train, "val": val}, ["cat", "dog", "emu"], min_area=33)
    assert logged(capsys) == [
        "fold 0: trains on 2 classes (images: 5, shots with each class: 1 at most), "
        "tests on class 1 cat (images: 2, shots with each class: 1 at most)",
        "fold 1: trains on 2 classes (images: 6, shots with each class: 1 at most), "
        "tests on class 2 dog (images: 3, shots with each class: 2 at most)",
        "fold 2: trains on 2 classes (images: 7, shots with each class: 2 at most), "
        "tests on class 3 emu (images: 1, shots with each class: 0 at most)",
        "val.txt: an episode needs 2 images with 33 pixels of its class; too few show class 3 emu (1)",
    ]


def test_one_class_is_no_fold(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging()
    present = np.ones((4, 1), dtype=bool)
    describe_folds([], {"train": present, "val": present}, None, min_area=33)
    assert logged(capsys) == [
        "no fold, which needs objects of two classes, one of them held back; experiments ssl_* and joint_* need no "
        "fold: they test on the class itself (images: 4, shots with each class: 3 at most)"
    ]


def test_without_a_test_part_the_classes_for_training_are_described(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging()
    present = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], dtype=bool)
    describe_folds([], {"train": present}, ["cat", "dog"], min_area=33)
    assert logged(capsys) == [
        "no test: no class is shown by 6 images with masks; all images are for training",
        "train.txt: an episode needs 2 images with 33 pixels of its class; too few show class 2 dog (1)",
    ]


def test_long_lists_of_classes_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging()
    describe_folds([], {"val": np.zeros((4, 13), dtype=bool)}, None, min_area=33)
    assert logged(capsys)[1].endswith(
        "too few show class " + ", ".join(f"{n} (0)" for n in range(1, 11)) + ", and 3 more"
    )
