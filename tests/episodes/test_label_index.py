"""The label index: counts, its cache, and the faults it finds before training starts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from episodes import label_index
from episodes.label_index import label_areas
from episodes.lists import ImageList
from tests.episodes.drawing import draw_label
from util.errors import UserError
from util.images import write_label


def test_areas_are_pixel_counts(images: ImageList) -> None:
    areas = label_areas(images)
    assert areas.shape == (len(images), 256)
    for row, counts in enumerate(areas):
        np.testing.assert_array_equal(counts, np.bincount(draw_label(row).ravel(), minlength=256))


def test_the_second_time_no_label_is_opened(images: ImageList, monkeypatch: pytest.MonkeyPatch) -> None:
    first = label_areas(images)

    def refuse(path: Path) -> np.ndarray:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(label_index, "read_label", refuse)
    np.testing.assert_array_equal(label_areas(images), first)


def test_a_changed_label_is_counted_anew(images: ImageList) -> None:
    label_areas(images)
    write_label(images.label_path(2), np.full_like(draw_label(2), 7))
    os.utime(images.label_path(2), ns=(1, 1))
    assert label_areas(images)[2, 7] == draw_label(2).size


def test_a_label_of_another_size_is_named(images: ImageList) -> None:
    write_label(images.label_path(3), np.zeros((10, 12), dtype=np.uint8))
    with pytest.raises(
        UserError, match=r"photo_03\.png: the label is 12x10 pixels, its image .*photo_03\.png is 33x97"
    ):
        label_areas(images)
