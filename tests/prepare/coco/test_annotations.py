"""COCO's annotation files: what is kept, and one line for everything that can be wrong with them."""

from __future__ import annotations

import json
import os
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


def test_annotations_without_outline_and_those_of_deleted_images_are_left_out_with_a_count(
    tmp_path: Path, messages: list[str]
) -> None:
    value = content()
    value["annotations"] += [
        annotation(20, 1, 1, None),
        annotation(21, 1, 1, {}),
        annotation(22, 1, 1, []),
        annotation(24, 99, 1, [rectangle(1, 1, 9, 9)]),
        annotation(25, 98, 1, None),
    ]
    value["annotations"].append({"id": 23, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]})
    instances = read_instances(write_annotations(tmp_path / "instances.json", value))
    assert [len(annotated.annotations) for annotated in instances.images] == [2, 1, 1, 2, 1]
    assert messages == [
        f"{instances.path}: 4 annotations have no outline and are left out",
        f"{instances.path}: 2 annotations are of images that are not in 'images' and are left out",
    ]


def test_the_section_decides_what_an_object_is_and_not_its_keys(tmp_path: Path) -> None:
    """As exported with the attributes and sources that tools and scripts add."""
    value = content()
    plain = read_instances(write_annotations(tmp_path / "plain.json", value))
    noise = {"segmentation": "by hand", "file_name": 5, "id": "x"}
    value["info"] = value["meta"] = noise
    for name in ("images", "annotations", "categories"):
        value[name] = [{**entry, "attributes": noise, "meta": [noise], "segmentations": 1} for entry in value[name]]
    for entry in (*value["images"], *value["categories"]):
        entry["segmentation"] = {"size": 5}
    for entry in value["annotations"]:
        entry["file_name"] = None
    instances = read_instances(write_annotations(tmp_path / "noisy.json", value))
    assert repr(instances.images) == repr(plain.images) and instances.categories == plain.categories


def test_a_heading_that_no_annotation_has_is_no_category(tmp_path: Path, messages: list[str]) -> None:
    """Roboflow's exports begin with one for the project, which may have the name of a class."""
    value = content()
    value["categories"] = [
        {"id": 0, "name": "car", "supercategory": "none"},
        {"id": 1, "name": "person", "supercategory": "car"},  # used: stays, though another names it
        {"id": 3, "name": "car", "supercategory": "car"},
        {"id": 90, "name": "toothbrush", "supercategory": "person"},
        {"id": 91, "name": "alone", "supercategory": "alone"},  # unused, but its own heading only
        {"id": 92, "name": 7},
    ]
    instances = read_instances(write_annotations(tmp_path / "instances.json", value))
    assert instances.categories == {1: "person", 3: "car", 90: "toothbrush", 91: "alone", 92: "7"}
    assert messages == [f"{instances.path}: category 0, 'car', only groups others and is left out"]


def test_a_byte_order_mark_and_numbers_as_pandas_writes_them(tmp_path: Path) -> None:
    value = content()
    plain = read_instances(write_annotations(tmp_path / "plain.json", value))
    for entry in value["images"]:
        entry.update(id=float(entry["id"]), height=40.0, width=60.0)
    for entry in value["annotations"]:
        entry.update(id=float(entry["id"]), image_id=float(entry["image_id"]), category_id=float(entry["category_id"]))
    path = tmp_path / "pandas.json"
    path.write_text(json.dumps(value), encoding="utf-8-sig")
    assert repr(read_instances(path).images) == repr(plain.images)


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
        (remove("images", 0, "file_name"), "image 4: 'file_name' is missing or not a string"),
        (change("images", 0, height="40"), "image 4: 'height' is missing or not a whole number"),
        (change("images", 0, height=10**9), "image 4: no image has 'height' 1000000000 and 'width' 60"),
        (change("images", 0, width=0), "image 4: no image has 'height' 40 and 'width' 0"),
        (change("images", 0, id=True), "an image: 'id' is missing or not a whole number"),
        (
            lambda value: value.update(images=[1]),
            "an image is not an object with 'id' and 'file_name'; expected COCO's",
        ),
        (change("images", 0, id=2), "image 2: this id occurs twice"),
        (change("images", 0, file_name="x/COCO_train2014_000000000002.png"), "image 2: .* is not a unique file name"),
        (
            change("images", 0, file_name="a\nb.jpg"),
            r"image 4: 'a\\nb\.jpg' holds a character that no list",
        ),
        (change("images", 0, file_name="\ud800.jpg"), r"image 4: '\\ud800\.jpg' holds a character that no list"),
        (change("images", 0, file_name=""), "image 4: '' is not a unique file name"),
        (lambda value: value.update(annotations=[1]), "an annotation is not an object with 'image_id' and"),
        (remove("annotations", 0, "id"), "an annotation: 'id' is missing or not a whole number"),
        (remove("annotations", 0, "category_id"), "annotation 10: 'category_id' is missing or not a whole number"),
        (change("annotations", 0, id=11), "annotation 11: this id occurs twice"),
        (change("annotations", 0, category_id=2), "annotation 10: category 2 is not in 'categories'"),
        (segment("x"), "annotation 10: 'segmentation' is neither a list of polygons nor run lengths"),
        (segment([1, 2, 3, 4, 5, 6]), "annotation 10: a polygon is not a list x, y, x, y"),
        (segment([[1, 2, 3, 4, 5, 6, 7]]), "annotation 10: a polygon is not a list"),
        (segment([["a", 2, 3, 4, 5, 6]]), "annotation 10: a polygon is not a list"),
        (segment([[[1, 2], [3, 4], [5, 6]]]), "annotation 10: a polygon is not a list"),
        (segment([[1, 2, 3, 4, 5, float("nan")]]), "annotation 10: a point is too far outside"),
        (segment([[1, 2, 3, 4, 5, 1e9]]), "annotation 10: a point is too far outside the image"),
        (segment([[1, 2, 3, 4, 5, 10**400]]), "annotation 10: a polygon is not a list"),
        (rle(counts=[5, 5]), r"annotation 10: the run lengths \(RLE\) are not those of \[40, 60\] pixels"),
        (rle(counts=[-5, 2405]), "annotation 10: the run lengths"),
        (rle(counts=[0.5, 2399.5]), "annotation 10: the run lengths"),
        (segment([[0, 0, 1e6, 1e6] * 6]), "annotation 10: an outline is longer than 10,000,000 pixels"),
        # 64-bit numbers whose sum is 2400 but for what overflows
        (rle(counts=[2**62] * 4 + [2400]), "annotation 10: the run lengths"),
        (rle(counts=[2**64, 2400]), "annotation 10: the run lengths"),
        (rle(counts=[[5], 5]), "annotation 10: the run lengths"),
        (rle(counts="o" * 1_000_000), "annotation 10: the run lengths"),
        (rle(size=[10**9, 10**9], counts=[10**18]), "annotation 10: the run lengths"),
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
        (b"[" * 100_000, r"not valid JSON \(nested too deeply\); correct the file"),
        (b'{"images": [' + b"9" * 5000 + b"]}", r"not valid JSON \(Exceeds the limit"),
        (b"[]", "not a JSON object with 'images', 'annotations' and 'categories'"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "instances.json"
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"instances\.json: {message}"):
        read_instances(path)


def test_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path, tmp_path / "gone.json", tmp_path / "pipe.json"):
        with pytest.raises(UserError, match="file not found; expected COCO's"):
            read_instances(path)
