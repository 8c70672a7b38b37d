"""Measures of pseudo masks against loops, closed forms and scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from masks.report.quality import (
    adjusted_rand,
    contingency,
    effective_number,
    matched_ious,
    normalised_mutual_information,
    overlap,
    pooled_mean,
    purity,
    quartiles,
)


def _draw(seed: int, clusters: int = 6, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A mask, and a label that has something to do with it and ignored pixels."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, clusters, (17, 23)).astype(np.uint8)
    noise = rng.integers(0, classes + 1, mask.shape)
    label = np.where(rng.random(mask.shape) < 0.5, mask % (classes + 1), noise).astype(np.uint8)
    label[rng.random(mask.shape) < 0.1] = 255
    return mask, label


def _square(top: int, left: int, side: int, value: int = 1) -> np.ndarray:
    canvas = np.zeros((40, 40), dtype=np.uint8)
    canvas[top : top + side, left : left + side] = value
    return canvas


def test_contingency_counts_pixel_by_pixel() -> None:
    mask, label = _draw(0)
    expected = np.zeros((256, 4), dtype=np.int64)
    for cluster, true_class in zip(mask.flat, label.flat, strict=True):
        if true_class != 255:
            expected[cluster, true_class] += 1
    assert np.array_equal(contingency(mask, label, 3), expected)


def test_ignored_pixels_change_nothing() -> None:
    mask, label = _draw(1)
    other = np.where(label == 255, 5 - mask, mask).astype(np.uint8)
    assert np.array_equal(contingency(mask, label, 3), contingency(other, label, 3))


def test_perfect_clusters_under_any_names() -> None:
    label = _draw(2)[1]
    names = np.array([7, 2, 0, 200], dtype=np.uint8)
    table = contingency(names[np.where(label == 255, 0, label)], label, 3)
    assert matched_ious(table).tolist() == [1, 1, 1, 1]
    assert normalised_mutual_information(table) == pytest.approx(1)
    assert purity(table) == 1
    assert adjusted_rand(table) == pytest.approx(1)


def test_a_single_cluster() -> None:
    table = np.array([[60, 30, 10]])
    assert matched_ious(table).tolist() == [0.6, 0, 0]  # the best match; classes without cluster have 0
    assert normalised_mutual_information(table) == pytest.approx(0)
    assert purity(table) == 0.6
    assert adjusted_rand(table) == 0


def test_four_pixels() -> None:
    table = contingency(np.array([[0, 0, 1, 1]], dtype=np.uint8), np.array([[0, 1, 1, 1]], dtype=np.uint8), 1)
    assert table[:2].tolist() == [[1, 1], [0, 2]]
    assert matched_ious(table[:2]) == pytest.approx([1 / 2, 2 / 3])
    assert purity(table[:2]) == 3 / 4
    of_classes = -(np.log(1 / 4) + 3 * np.log(3 / 4)) / 4
    information = np.log(2) + of_classes - 1.5 * np.log(2)
    assert normalised_mutual_information(table[:2]) == pytest.approx(2 * information / (np.log(2) + of_classes))
    assert adjusted_rand(table[:2]) == 0  # 1 pair together in both, as many as by chance: 2 * 3 / 6


def test_one_cluster_of_one_class_agrees() -> None:
    table = np.array([[4]])
    assert (normalised_mutual_information(table), adjusted_rand(table)) == (1, 1)


def test_clusters_without_class_are_missed_but_nobodys_false_positives() -> None:
    table = np.array([[50, 0], [0, 30], [10, 10]])
    assert matched_ious(table) == pytest.approx([50 / 60, 30 / 40])


def test_a_class_without_pixels_has_no_iou() -> None:
    ious = matched_ious(np.array([[5, 0, 0], [0, 0, 5]]))
    assert np.isnan(ious[1]) and ious[[0, 2]].tolist() == [1, 1]


@pytest.mark.parametrize("shape", [(5, 3), (4, 4), (3, 5)])
def test_no_other_matching_has_a_higher_mean_iou(shape: tuple[int, int]) -> None:
    table = np.random.default_rng(3).integers(1, 50, shape)
    iou = table / (table.sum(1, keepdims=True) + table.sum(0) - table)
    if shape[0] < shape[1]:
        iou = iou.T
    rows, columns = iou.shape
    sums = [iou[list(chosen), range(columns)].sum() for chosen in itertools.permutations(range(rows), columns)]
    assert matched_ious(table).sum() == pytest.approx(max(sums))


@pytest.mark.parametrize("seed", range(4))
def test_information_and_rand_are_those_of_scikit_learn(seed: int) -> None:
    mask, label = _draw(seed)
    valid = label != 255
    table = contingency(mask, label, 3)
    assert normalised_mutual_information(table) == pytest.approx(
        normalized_mutual_info_score(label[valid], mask[valid])
    )
    assert adjusted_rand(table) == pytest.approx(adjusted_rand_score(label[valid], mask[valid]))


def test_the_pixels_of_a_large_dataset_do_not_overflow() -> None:
    table = contingency(*_draw(4), 3)[:6]
    many = table * 10**8  # 3e10 pixels: their product is beyond int64
    assert normalised_mutual_information(many) == pytest.approx(normalised_mutual_information(table))
    # Whether a pixel makes a pair with itself matters to the few pixels only.
    assert adjusted_rand(many) == pytest.approx(adjusted_rand(table), abs=0.01)


def test_overlap_of_squares() -> None:
    mask = _square(0, 0, 20) + _square(30, 30, 10, 2)
    label = _square(0, 10, 20) + _square(32, 30, 5, 3)  # half of region 1 on class 1; class 3 within region 2
    measured = overlap(contingency(mask, label, 3), np.array([1, 2]), min_area=100)
    assert measured.object_best.tolist() == [200 / 600]  # class 3 has 25 pixels: no object ...
    assert measured.region_best.tolist() == [200 / 600, 25 / 100]  # ... but a region may overlap it
    assert measured.object_area.tolist() == [400 / 1600]
    assert measured.region_area.tolist() == [400 / 1600, 100 / 1600]
    assert measured.region_background.tolist() == [0.5, 0.75]


def test_overlap_takes_the_best_kept_region_and_leaves_ignored_pixels_out() -> None:
    mask = _square(0, 0, 20) + _square(0, 20, 20, 2)
    label = _square(0, 5, 20)
    label[20:] = 255
    table = contingency(mask, label, 1)
    assert overlap(table, np.array([1, 2]), 1).object_best.tolist() == [300 / 500]
    assert overlap(table, np.array([2]), 1).object_best.tolist() == [100 / 700]
    assert overlap(table, np.array([1, 2]), 1).object_area.tolist() == [400 / 800]


def test_overlap_with_nothing() -> None:
    mask, nothing, everywhere = _square(0, 0, 20), np.zeros(0, dtype=np.int32), np.full((40, 40), 255, dtype=np.uint8)
    without_region = overlap(contingency(mask, _square(0, 0, 20), 1), nothing, 1)
    assert without_region.object_best.tolist() == [0] and len(without_region.region_best) == 0
    without_object = overlap(contingency(mask, 0 * mask, 1), np.array([1]), 1)
    assert len(without_object.object_best) == 0 and without_object.region_best.tolist() == [0]
    ignored = overlap(contingency(mask, everywhere, 1), np.array([1]), 1)
    assert [array.tolist() for array in ignored] == [[], [], [0], [0], [0]]


def test_effective_number() -> None:
    assert effective_number(np.array([5, 5, 5, 0])) == pytest.approx(3)
    assert effective_number(np.array([0, 9])) == 1
    assert 1 < effective_number(np.array([1, 9])) < 2


def test_pooled_mean() -> None:
    values = [np.array([1.0, 1.0, 0.0]), np.zeros(0), np.array([0.0])]
    assert pooled_mean(values) == {"total": 0.5, "per_image": pytest.approx(1 / 3)}
    assert pooled_mean([np.zeros(0)]) == {"total": None, "per_image": None}


def test_quartiles() -> None:
    assert list(quartiles(np.arange(5.0)).values()) == [1, 2, 3]
    assert list(quartiles(np.zeros(0)).values()) == [None, None, None]
