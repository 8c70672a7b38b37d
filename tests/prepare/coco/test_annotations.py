"""COCO's annotation files: what is kept, and one line for everything that can be wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prepare.coco.annotations import read_instances
from prepare.coco.segmentation import RunLengths
from tests.prepare.coco.small_coco import (
    annotation,
    box,
    compressed,
    content,
    image,
    rectangle,
    run_lengths,
    write_annotations,
)
from util.errors import UserError

Content = dict[str, Any]


def test_annotated_images_by_name_with_what_is_needed(tmp_path: Path) -> None:
    instances = read_instances(write_annotations(tmp_path / "instances.json", content()))
    assert [annotated.id for annotated in instances.images] == [1, 2, 3, 4, 5]  # 6 has no annotation
    assert instances.categories == {1: "person", 3: "car", 90: "toothbrush"}
    annotated = instances.images[1]
    assert annotated[:4] == (2, "COCO_train2014_000000000002.jpg", 40, 60)
    (car,) = annotated.annotations
    assert (car.id, car.image_id, car.category, car.crowd) == (12, 2, 3, False)
    assert isinstance(car.segmentation, list)
    assert [polygon.tolist() for polygon in car.segmentation] == [rectangle(0, 0, 10, 10), rectangle(50, 30, 60, 40)]
    assert [entry.crowd for entry in instances.images[3].annotations] == [True, False]


@pytest.mark.parametrize("seed", range(20))
def test_compressed_run_lengths_are_the_uncompressed_ones(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sides = rng.integers(1, 200, 2)
    mask = rng.random(sides) < 0.5 ** rng.integers(1, 12)
    value = {**content(), "images": [{**image(1), "height": int(sides[0]), "width": int(sides[1])}]}
    value["annotations"] = [annotation(1, 1, 1, compressed(mask)), annotation(2, 1, 1, run_lengths(mask))]
    (annotated,) = read_instances(write_annotations(tmp_path / "instances.json", value)).images
    first, second = (entry.segmentation for entry in annotated.annotations)
    assert isinstance(first, RunLengths) and isinstance(second, RunLengths)
    np.testing.assert_array_equal(first.counts, second.counts)


def test_names_of_2017_and_folders_in_names(tmp_path: Path) -> None:
    value = {
        **content(),
        "images": [{**entry, "file_name": f"train2017/{entry['id']:012d}.jpg"} for entry in content()["images"]],
    }
    instances = read_instances(write_annotations(tmp_path / "instances.json", value))
    assert instances.images[0].name == "000000000001.jpg"


def test_polygons_without_area_are_left_out_with_one_line(tmp_path: Path, messages: list[str]) -> None:
    value = content()
    value["annotations"] += [
        annotation(20, 1, 1, [[1, 1, 9, 9]]),
        annotation(21, 6, 1, [[1, 1], []]),
        annotation(22, 2, 1, [[1, 1, 9, 9], rectangle(1, 1, 9, 9)]),
    ]
    instances = read_instances(write_annotations(tmp_path / "instances.json", value))
    assert messages == [f"{instances.path}: 4 polygons have fewer than three points and are left out"]
    assert [len(annotated.annotations) for annotated in instances.images] == [2, 2, 1, 2, 1]


def change(name: str, row: int, **values: object) -> Callable[[Content], None]:
    def spoil(value: Content) -> None:
        value[name][row] = {**value[name][row], **values}

    return spoil


def remove(*keys: str | int) -> Callable[[Content], None]:
    def spoil(value: Content) -> None:
        for key in keys[:-1]:
            value = value[key]  # type: ignore[index]
        del value[keys[-1]]  # type: ignore[arg-type]

    return spoil


def segment(segmentation: object) -> Callable[[Content], None]:
    return change("annotations", 0, segmentation=segmentation)


def rle(**values: object) -> Callable[[Content], None]:
    return segment({**run_lengths(box(0, 0, 5, 5)), **values})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("images"), "has no 'images'; expected COCO's instances_"),
        (remove("annotations"), "has no 'annotations'"),
        (remove("categories"), "has no 'categories'"),
        (lambda value: value.update(images={}), "'images' is missing or not a list"),
        (remove("images", 0, "file_name"), "an image has no 'file_name'; expected COCO's instances_"),
        (change("images", 0, height="40"), "image 4: 'height' is missing or not a whole number"),
        (change("images", 0, id=2), "image 2: this id occurs twice"),
        (change("images", 0, file_name="x/COCO_train2014_000000000002.png"), "image 2: .* is not a unique file name"),
        (change("images", 0, file_name=""), "image 4: '' is not a unique file name"),
        (remove("annotations", 0, "segmentation"), "an annotation has no 'segmentation'; expected COCO's instances_"),
        (remove("annotations", 0, "category_id"), "annotation 10: 'category_id' is missing or not a whole number"),
        (change("annotations", 0, id=11), "annotation 11: this id occurs twice"),
        (change("annotations", 0, category_id=2), "annotation 10: category 2 is not in 'categories'"),
        (change("annotations", 0, image_id=99), "annotation 10: image 99 is not in 'images'"),
        (segment("x"), "annotation 10: 'segmentation' is neither a list of polygons nor run lengths"),
        (segment([1, 2, 3, 4, 5, 6]), "annotation 10: a polygon is not a list x, y, x, y"),
        (segment([[1, 2, 3, 4, 5, 6, 7]]), "annotation 10: a polygon is not a list"),
        (segment([["a", 2, 3, 4, 5, 6]]), "annotation 10: a polygon is not a list"),
        (segment([[[1, 2], [3, 4], [5, 6]]]), "annotation 10: a polygon is not a list"),
        (segment([[1, 2, 3, 4, 5, float("nan")]]), "annotation 10: a polygon is not a list"),
        (segment([[1, 2, 3, 4, 5, 1e9]]), "annotation 10: a polygon is not a list"),
        (segment([[1, 2, 3, 4, 5, 10**400]]), "annotation 10: a polygon is not a list"),
        (rle(counts=[5, 5]), r"annotation 10: the run lengths \(RLE\) are not those of \[40, 60\] pixels"),
        (rle(counts=[-5, 2405]), "annotation 10: the run lengths"),
        (rle(counts=[0.5, 2399.5]), "annotation 10: the run lengths"),
        (rle(counts="04L4"), "annotation 10: the run lengths"),
        (rle(counts="\u00e9"), "annotation 10: the run lengths"),
        (rle(counts=[[5], [2395]]), "annotation 10: the run lengths"),
        (rle(counts=5), "annotation 10: 'counts' is missing or not a list"),
        (rle(size=[40]), "annotation 10: the run lengths"),
        (rle(size=["40", 60]), "annotation 10: the run lengths"),
        (rle(size=40), "annotation 10: 'size' is missing or not a list"),
        (rle(size=[60, 40]), r"annotation 10: its run lengths \(RLE\) are for 40x60 pixels, but COCO_.* is 60x40"),
        (change("categories", 0, id=3), "category 3: this id occurs twice"),
        (remove("categories", 0, "name"), "category 1: 'name' is missing or not a string"),
        (lambda value: value.update(categories=[1]), "a category is not an object with 'id' and 'name'"),
        (lambda value: value.update(annotations=[]), "none of its annotations outlines anything; expected COCO's"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, spoil: Callable[[Content], None], message: str) -> None:
    value = json.loads(json.dumps(content()))
    spoil(value)
    path = write_annotations(tmp_path / "instances.json", value)
    with pytest.raises(UserError, match=rf"instances\.json: {message}") as error:
        read_instances(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89PNG", "not valid JSON"),
        (b"<html>", r"not valid JSON \(Expecting value"),
        (json.dumps(content()).encode()[:-100], "not valid JSON"),
        (b"[]", "not a JSON object with 'images', 'annotations' and 'categories'"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "instances.json"
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"instances\.json: {message}"):
        read_instances(path)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.json"):
        with pytest.raises(UserError, match="file not found; expected COCO's"):
            read_instances(path)
