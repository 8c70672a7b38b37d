"""The label index: counts, its cache, and the faults it finds before training starts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from episodes import label_index
from episodes.label_index import label_areas
from episodes.lists import ImageList
from tests.episodes.drawn_images import draw_label
from util.errors import UserError
from util.files import cache_folder
from util.images import write_label


def test_areas_are_pixel_counts(images: ImageList) -> None:
    areas = label_areas(images)
    expected = [
        (row, value, np.count_nonzero(draw_label(row) == value))
        for row in range(len(images))
        for value in np.unique(draw_label(row))
    ]
    assert list(zip(areas.image, areas.label, areas.area, strict=True)) == expected


def test_a_list_longer_than_a_block_is_counted_in_order(images: ImageList, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = label_areas(images)
    monkeypatch.setattr(label_index, "_BLOCK", 4)
    in_blocks = label_index._count_all(images)
    for name, array in vars(whole).items():
        np.testing.assert_array_equal(getattr(in_blocks, name), array)


def test_images_with_a_label(images: ImageList) -> None:
    areas = label_areas(images)
    assert areas.images_with(4).tolist() == [0, 5, 10]
    assert areas.images_with(4, min_area=25).tolist() == [0, 5, 10]
    assert areas.images_with(4, min_area=26).tolist() == []
    assert areas.images_with(2, min_area=100).tolist() == [1, 4, 7, 10, 13]


def test_the_second_time_no_label_is_opened(images: ImageList, monkeypatch: pytest.MonkeyPatch) -> None:
    first = label_areas(images)

    def refuse(path: Path) -> np.ndarray:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(label_index, "read_label", refuse)
    for name, array in vars(label_areas(images)).items():
        np.testing.assert_array_equal(array, getattr(first, name))


def test_a_changed_label_is_counted_anew(images: ImageList) -> None:
    label_areas(images)
    write_label(images.label_path(2), np.full_like(draw_label(2), 7))
    os.utime(images.label_path(2), ns=(1, 1))
    areas = label_areas(images)
    assert areas.label[areas.image == 2].tolist() == [7]
    assert areas.area[areas.image == 2].tolist() == [draw_label(2).size]


def test_a_damaged_cache_is_named(images: ImageList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSUPFSS_CACHE", str(tmp_path / "cache"))
    label_areas(images)
    (cache,) = cache_folder().glob("label-areas-*")
    cache.write_bytes(b"half")
    with pytest.raises(UserError, match=r"label-areas-.*not a readable file of image, label, area .*; delete it"):
        label_areas(images)


def test_a_label_of_another_size_is_named(images: ImageList) -> None:
    write_label(images.label_path(3), np.zeros((10, 12), dtype=np.uint8))
    with pytest.raises(UserError, match=r"photo_03\.png: the label is 12x10 pixels, but .*photo_03\.png is 33x97"):
        label_areas(images)


@pytest.mark.parametrize("label", ["gone.png", "photo_00.png/gone.png", "zero\0.png", "x" * 300])
def test_a_label_that_is_not_there_is_named(images: ImageList, label: str) -> None:
    with pytest.raises(UserError, match=r"label not found; correct .* or DATA\.data_root"):
        label_areas(replace(images, labels=(label, *images.labels[1:])))
