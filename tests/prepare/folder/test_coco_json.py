"""A user's own JSON in COCO's format: which image is meant, which class a category is, what is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prepare.folder.coco_json import CocoMask, read_coco
from tests.prepare.coco.small_coco import (
    HEIGHT,
    WIDTH,
    annotation,
    box,
    compressed,
    rectangle,
    run_lengths,
    write_annotations,
)
from util.errors import UserError


def listed(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}


def content(*names: str) -> dict[str, Any]:
    """Images 1, 2, ... of these names; categories 7 and 300; an annotation on the first image."""
    return {
        "images": [listed(number, name) for number, name in enumerate(names, start=1)],
        "annotations": [annotation(1, 1, 300, [rectangle(5, 5, 20, 20)])],
        "categories": [{"id": 300, "name": "zebra  finch"}, {"id": 7, "name": "ant"}],
    }


def read(folder: Path, value: object, *names: str) -> tuple[tuple[str, ...], dict[str, CocoMask]]:
    """The names and masks for images of these names, which are never opened."""
    path = write_annotations(folder / "own.json", value)
    classes, masks = read_coco(path, folder, [folder / name for name in names])
    return classes, {image.relative_to(folder).as_posix(): mask for image, mask in masks.items()}


def test_categories_are_classes_by_id_and_masks_are_drawn(tmp_path: Path) -> None:
    value = content("a.jpg", "b.jpg", "c.jpg")
    value["annotations"] += [
        annotation(2, 2, 7, compressed(box(0, 0, 30, 30))),
        annotation(3, 2, 300, run_lengths(box(10, 10, 15, 15)), crowd=1),
        annotation(4, 2, 7, [rectangle(50, 35, 90, 80)]),  # partly outside
    ]
    names, masks = read(tmp_path, value, "a.jpg", "b.jpg", "c.jpg")
    assert names == ("ant", "zebra finch")
    expected = {name: np.zeros((HEIGHT, WIDTH), dtype=np.uint8) for name in masks}
    expected["a.jpg"][5:20, 5:20] = 2
    expected["b.jpg"][:30, :30] = 1
    expected["b.jpg"][10:15, 10:15] = 2
    expected["b.jpg"][35:, 50:] = 1
    assert list(masks) == ["a.jpg", "b.jpg", "c.jpg"]
    for name, mask in masks.items():
        assert mask.size() == (HEIGHT, WIDTH)
        label = mask.read()
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label, expected[name])


def test_images_are_found_by_path_or_by_name(tmp_path: Path) -> None:
    value = content("one/x.jpg", "two\\x.jpg", "./deep/er/y.jpg", "z.jpg")
    _, masks = read(tmp_path, value, "one/x.jpg", "two/x.jpg", "y.jpg", "sub/z.jpg")
    assert {name: mask.annotated.id for name, mask in masks.items()} == {
        "one/x.jpg": 1,
        "two/x.jpg": 2,
        "y.jpg": 3,
        "sub/z.jpg": 4,
    }


def test_missing_images_are_reported_in_one_line(tmp_path: Path, messages: list[str]) -> None:
    _, masks = read(tmp_path, content("a.jpg", "b.jpg", "c.jpg"), "b.jpg", "other.jpg")
    assert list(masks) == ["b.jpg"]
    assert messages == [f"{tmp_path / 'own.json'}: 2 of its images are not in {tmp_path} and are left out"]


def test_outlines_that_are_only_boxes_are_reported(tmp_path: Path, messages: list[str]) -> None:
    value = content("a.jpg")
    value["annotations"] += [annotation(2, 1, 7, []), annotation(3, 1, 7, [[1, 1, 5, 5]])]
    _, masks = read(tmp_path, value, "a.jpg")
    assert set(np.unique(masks["a.jpg"].read())) == {0, 2}
    assert messages == [
        f"{tmp_path / 'own.json'}: 1 polygons have fewer than three points and are left out",
        f"{tmp_path / 'own.json'}: 1 annotations have no outline and are left out",
    ]


def test_a_heading_of_the_name_of_a_class_is_dropped(tmp_path: Path) -> None:
    value = content("a.jpg")
    value["categories"] = [
        {"id": 0, "name": "zebra finch", "supercategory": "none"},
        {"id": 300, "name": "zebra finch", "supercategory": "zebra finch"},
    ]
    names, masks = read(tmp_path, value, "a.jpg")
    assert names == ("zebra finch",)
    assert masks["a.jpg"].read().max() == 1


def test_names_with_accents_however_they_are_written(tmp_path: Path) -> None:
    """macOS takes letters and accents apart in the names of files."""
    _, masks = read(
        tmp_path, content("caf\u00e9.jpg", "e\u0301t\u00e9.jpg"), "cafe\u0301.jpg", "sub/\u00e9te\u0301.jpg"
    )
    assert [mask.annotated.id for mask in masks.values()] == [1, 2]


def _same_names(value: dict[str, Any]) -> None:
    value["categories"][1]["name"] = "zebra finch"


def _many(value: dict[str, Any]) -> None:
    value["categories"] = [{"id": number, "name": f"class{number}"} for number in range(255)]
    value["annotations"] = []


def _unknown(value: dict[str, Any]) -> None:
    value["annotations"][0]["category_id"] = 8


def _twice(value: dict[str, Any]) -> None:
    value["images"][1]["file_name"] = "a.jpg"


def _elsewhere(value: dict[str, Any]) -> None:
    for image in value["images"]:
        image["file_name"] = f"x{image['file_name']}"


def _no_categories(value: dict[str, Any]) -> None:
    value.update(categories=[], annotations=[])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_same_names, "classes 1 and 2 are both called 'zebra finch'"),
        (_many, "255 classes; masks have room for 254"),
        (_unknown, "annotation 1: category 8 is not in 'categories'"),
        (_twice, "image 2: 'a.jpg' is not a unique file name"),
        (_elsewhere, r"none of the 2 images in .* is among its 'images'"),
        (_no_categories, "no class in it"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, spoil: Any, message: str) -> None:
    value = content("a.jpg", "b.jpg")
    spoil(value)
    with pytest.raises(UserError, match=rf"own\.json: {message}") as error:
        read(tmp_path, value, "a.jpg", "b.jpg")
    assert "\n" not in str(error.value)


def test_names_that_may_mean_several_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"own\.json: lists one/x\.jpg and two/x\.jpg, either may be .*x\.jpg; arrange"):
        read(tmp_path, content("one/x.jpg", "two/x.jpg"), "x.jpg")
    with pytest.raises(UserError, match=r"own\.json: x\.jpg may be .*one/x\.jpg or .*two/x\.jpg; arrange"):
        read(tmp_path, content("x.jpg"), "one/x.jpg", "two/x.jpg")
