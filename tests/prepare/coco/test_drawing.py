"""Drawing labels: COCO's own masks, and which one lies on top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from prepare.coco.annotations import AnnotatedImage, read_instances
from prepare.coco.drawing import draw_label
from tests.prepare.coco.small_coco import (
    CATEGORIES,
    HEIGHT,
    WIDTH,
    annotation,
    box,
    compressed,
    content,
    image,
    labels,
    rectangle,
    run_lengths,
    write_annotations,
)

CLASSES = {1: 1, 3: 3, 90: 80}


def read(folder: Path, value: Mapping[str, Any]) -> list[AnnotatedImage]:
    return read_instances(write_annotations(folder / "instances.json", value)).images


def read_one(folder: Path, *annotations: dict[str, Any]) -> AnnotatedImage:
    return read(folder, {"images": [image(1)], "annotations": annotations, "categories": CATEGORIES})[0]


def draw(annotated: AnnotatedImage, ignore_crowds: bool = False) -> np.ndarray:
    return draw_label(annotated, CLASSES, ignore_crowds=ignore_crowds)


@pytest.mark.parametrize(("ignore_crowds", "crowd"), [(False, 80), (True, 255)])
def test_known_pixels(tmp_path: Path, ignore_crowds: bool, crowd: int) -> None:
    drawn = {annotated.id: draw(annotated, ignore_crowds) for annotated in read(tmp_path, content())}
    assert not drawn.pop(5).any()
    assert drawn.keys() == labels().keys()
    for number, expected in labels(crowd).items():
        assert drawn[number].dtype == np.uint8 and drawn[number].flags.c_contiguous
        np.testing.assert_array_equal(drawn[number], expected)


def random_annotations(seed: int) -> list[dict[str, Any]]:
    """Polygons that leave the image, in several parts, and both kinds of run lengths, with sizes that repeat."""
    rng = np.random.default_rng(seed)
    annotations = []
    for number in rng.permutation(12):
        left, top = int(rng.integers(0, 40)), int(rng.integers(0, 20))
        mask = box(left, top, left + 10 * int(rng.integers(1, 3)), top + 10)
        corners = [
            rng.uniform(-20, 80, 2 * points).round(2).tolist() for points in rng.integers(3, 9, rng.integers(1, 4))
        ]
        segmentation = [corners, run_lengths(mask), compressed(mask), run_lengths(rng.random(mask.shape) < 0.2)][
            number % 4
        ]
        crowd = int(number % 4 == 1)
        annotations.append(annotation(int(number), 1, int(rng.choice([1, 3, 90])), segmentation, crowd))
    return annotations


@pytest.mark.parametrize("seed", range(8))
def test_a_naive_painter_gives_the_same(tmp_path: Path, seed: int) -> None:
    annotations = random_annotations(seed)
    reference = COCO()
    reference.dataset = {"images": [image(1)], "annotations": annotations, "categories": CATEGORIES}
    reference.createIndex()
    masks = {entry["id"]: reference.annToMask(entry) for entry in annotations}
    categories = {entry["id"]: entry["category_id"] for entry in annotations}
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            here = [(mask.sum(), -number) for number, mask in masks.items() if mask[row, column]]
            if here:
                expected[row, column] = CLASSES[categories[-min(here)[1]]]
    np.testing.assert_array_equal(draw(read_one(tmp_path, *annotations)), expected)


def test_the_smaller_lies_on_top_then_the_higher_id(tmp_path: Path) -> None:
    large, small = [rectangle(0, 0, 30, 30)], [rectangle(10, 10, 20, 20)]
    for first, second in ((8, 9), (9, 8)):  # whatever the ids and their order in the file
        label = draw(read_one(tmp_path, annotation(first, 1, 1, large), annotation(second, 1, 3, small)))
        assert label[15, 15] == 3 and label[5, 5] == 1
    same = annotation(8, 1, 1, large), annotation(9, 1, 3, large)
    assert draw(read_one(tmp_path, *same))[5, 5] == draw(read_one(tmp_path, *reversed(same)))[5, 5] == 3


def test_a_crowd_takes_its_place_by_size_too(tmp_path: Path) -> None:
    person, crowd = [rectangle(0, 0, 30, 30)], run_lengths(box(10, 10, 20, 20))
    annotated = read_one(tmp_path, annotation(1, 1, 1, person), annotation(2, 1, 1, crowd, crowd=1))
    assert draw(annotated)[15, 15] == 1
    ignored = draw(annotated, ignore_crowds=True)
    assert ignored[15, 15] == 255 and np.count_nonzero(ignored == 255) == 100


def test_polygons_are_clipped(tmp_path: Path) -> None:
    label = draw(read_one(tmp_path, annotation(1, 1, 1, [rectangle(-1000, 10, 1000, 20)])))
    np.testing.assert_array_equal(label, box(0, 10, WIDTH, 20).astype(np.uint8))
