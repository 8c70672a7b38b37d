"""Objects learnt from many images: means over superpixels, the direction, the threshold, going on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from masks.prepared_images import PreparedImage
from masks.recipes.objects import (
    SuperpixelTable,
    fit_objectness,
    learn_objectness,
    superpixel_means,
    superpixel_table,
)
from util.errors import UserError

DIMENSIONS = 6


def test_means_are_those_of_the_enlarged_map() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 4, 7)).astype(np.float32)
    superpixels = rng.integers(0, 9, (23, 50))
    enlarged = F.interpolate(torch.from_numpy(features)[None], (23, 50), mode="bilinear", align_corners=True)[0].numpy()
    wanted = np.stack([enlarged[:, superpixels == number].mean(axis=1) for number in range(9)])
    assert np.allclose(superpixel_means(features, superpixels), wanted, atol=1e-5)


def test_a_table_says_how_much_lies_in_the_middle() -> None:
    superpixels = np.zeros((40, 80), dtype=np.int32)
    superpixels[:, 40:] = 1
    superpixels[15:25, 30:50] = 2
    image = np.zeros((40, 80, 3), dtype=np.uint8)
    table = superpixel_table(PreparedImage(0, (40, 80), image, image, superpixels), 3 * np.ones((DIMENSIONS, 5, 10)))
    assert table.areas.tolist() == [1500, 1500, 200]
    assert np.allclose(table.middle, [300 / 1500, 300 / 1500, 1])
    assert np.allclose(np.linalg.norm(table.features, axis=1), 1)


def _image(rng: np.random.Generator, *, centred: bool) -> tuple[SuperpixelTable, np.ndarray]:
    """Twelve superpixels, three of them the object, which has something of feature 0; every image has a background
    of its own. Also which superpixels are the object."""
    inside = np.zeros(12, dtype=bool)
    inside[:3] = True
    features = rng.normal(0, 0.05, (12, DIMENSIONS)) + rng.normal(0, 0.3, DIMENSIONS)
    features[inside, 0] += 0.5
    middle = inside if centred else np.roll(inside, 6)
    return SuperpixelTable(features.astype(np.float32), np.full(12, 100.0), middle.astype(float)), inside


def test_objects_are_found_also_where_they_are_not_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    tables, inside = zip(*(_image(rng, centred=number % 3 > 0) for number in range(60)), strict=True)
    # Backgrounds differ by image: take away what all of an image shares, so that one threshold can do.
    tables = tuple(table._replace(features=table.features - table.features.mean(axis=0)) for table in tables)
    objectness = fit_objectness(tables, share=0.25)
    assert objectness.direction[0] > 0.98 and np.isclose(np.linalg.norm(objectness.direction), 1)
    predicted = [table.features @ objectness.direction > objectness.threshold for table in tables]
    assert np.mean(np.concatenate(predicted) == np.concatenate(inside)) > 0.98


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_threshold_leaves_the_share_of_the_pixels(share: float) -> None:
    rng = np.random.default_rng(1)
    tables = [_image(rng, centred=True)[0] for _ in range(200)]
    tables = [table._replace(areas=rng.uniform(50, 150, 12)) for table in tables]
    objectness = fit_objectness(tables, share=share)
    above = [table.areas[table.features @ objectness.direction > objectness.threshold].sum() for table in tables]
    assert sum(above) / sum(table.areas.sum() for table in tables) == pytest.approx(share, abs=0.005)


def test_sizes_of_images_do_not_matter() -> None:
    """An image of four times the pixels counts equally in the direction."""
    rng = np.random.default_rng(2)
    tables = [_image(rng, centred=True)[0] for _ in range(50)]
    larger = [table._replace(areas=4 * table.areas) for table in tables]
    same, other = fit_objectness(tables, share=0.25), fit_objectness(larger, share=0.25)
    assert np.allclose(same.direction, other.direction) and np.allclose(same.threshold, other.threshold)


def test_images_of_nothing() -> None:
    table = SuperpixelTable(np.ones((4, DIMENSIONS), dtype=np.float32), np.full(4, 10.0), np.array([1.0, 0, 0, 0]))
    with pytest.raises(UserError, match="nothing distinguishes the middle of the images from the rest"):
        fit_objectness([table] * 3, share=0.3)


def test_tables_are_made_once(tmp_path: Path) -> None:
    made: list[int] = []

    def tables(rows: Sequence[int]) -> Iterable[SuperpixelTable]:
        for row in rows:
            if len(made) == 4:
                raise KeyboardInterrupt
            made.append(row)
            yield _image(np.random.default_rng(row), centred=True)[0]

    rows = [5, 2, 9, 0, 7, 3]
    with pytest.raises(KeyboardInterrupt):
        learn_objectness(tables, rows, share=0.25, folder=tmp_path)
    assert made == rows[:4]
    made.clear()
    objectness = learn_objectness(tables, rows, share=0.25, folder=tmp_path)
    assert made == rows[4:]
    whole = fit_objectness([_image(np.random.default_rng(row), centred=True)[0] for row in rows], share=0.25)
    assert np.array_equal(objectness.direction, whole.direction)
    assert objectness.threshold == whole.threshold
