"""labelme's JSONs: the pixels of every kind of shape, the order of classes, an error of its own for every mistake."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prepare.folder.labelme import read_labelme
from util.errors import UserError

HEIGHT, WIDTH = 40, 60
Y, X = np.mgrid[:HEIGHT, :WIDTH]


def shape(label: object, points: object, kind: object = "polygon", **more: object) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def write(path: Path, *shapes: dict[str, Any], **more: object) -> Path:
    content: dict[str, Any] = {
        "version": "5.2.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": "x.jpg",
        "imageData": None,
    }
    path.write_text(json.dumps({**content, "imageHeight": HEIGHT, "imageWidth": WIDTH, **more}))
    return path


def draw(folder: Path, *shapes: dict[str, Any]) -> np.ndarray:
    """The mask of one file, in which labels a, b, ... are classes 1, 2, ..."""
    names = folder / "names.txt"
    names.write_text("a\nb\nc\n")
    _, (mask,) = read_labelme([write(folder / "x.json", *shapes)], names, workers=1)
    assert mask.size() == (HEIGHT, WIDTH)
    label = mask.read()
    assert label.dtype == np.uint8 and label.shape == (HEIGHT, WIDTH)
    return label


def bitmap(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


@pytest.mark.parametrize("corners", [[[10, 5], [30, 20]], [[30, 5], [10, 20]], [[30, 20], [10, 5]]])
def test_a_rectangle_has_its_corners(tmp_path: Path, corners: list[list[int]]) -> None:
    expected = (X >= 10) & (X <= 30) & (Y >= 5) & (Y <= 20)
    np.testing.assert_array_equal(draw(tmp_path, shape("a", corners, "rectangle")), expected)


@pytest.mark.parametrize("kind", ["polygon", None])
def test_a_polygon_is_filled_with_its_outline(tmp_path: Path, kind: str | None) -> None:
    square = [[10, 5], [30, 5], [30, 20], [10, 20]]
    expected = (X >= 10) & (X <= 30) & (Y >= 5) & (Y <= 20)
    np.testing.assert_array_equal(draw(tmp_path, shape("a", square, kind)), expected)


@pytest.mark.parametrize("seed", range(10))
def test_a_triangle_is_right_but_for_the_pixels_on_its_edges(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform((-20, -20), (WIDTH + 20, HEIGHT + 20), (3, 2))  # partly outside
    sides = []
    for first, second in zip(points, np.roll(points, -1, axis=0), strict=True):
        direction = second - first
        cross = direction[0] * (Y - first[1]) - direction[1] * (X - first[0])
        sides.append(cross / np.hypot(*direction))
    (x1, y1), (x2, y2) = points[1:] - points[0]
    orientation = np.sign(x1 * y2 - y1 * x2)
    depth = np.min(orientation * np.array(sides), axis=0)  # signed distance to the nearest edge's line
    label = draw(tmp_path, shape("a", points.tolist()))
    assert np.all(label[depth > 1] == 1)
    assert np.all(label[depth < -2] == 0)  # Pillow rounds corners and adds the outline


@pytest.mark.parametrize("kind", ["rectangle", "rotation"])
def test_a_rectangle_of_x_anylabeling_has_four_corners(tmp_path: Path, kind: str) -> None:
    square = [[10.0, 5.0], [30.0, 5.0], [30.0, 20.0], [10.0, 20.0]]
    label = draw(tmp_path, shape("a", square, kind, direction=0.0, attributes={}))
    np.testing.assert_array_equal(label, (X >= 10) & (X <= 30) & (Y >= 5) & (Y <= 20))


def test_a_turned_rectangle_is_not_the_box_around_it(tmp_path: Path) -> None:
    label = draw(tmp_path, shape("a", [[30, 5], [45, 20], [30, 35], [15, 20]], "rotation", direction=0.785))
    distance = np.abs(X - 30) + np.abs(Y - 20)
    np.testing.assert_array_equal(label, distance <= 15)


def test_sizes_and_labels_as_scripts_write_them(tmp_path: Path) -> None:
    box = [[1, 1], [5, 5]]
    path = write(
        tmp_path / "x.json",
        *(shape(label, box, "rectangle") for label in (7, 7.0, "7", 10)),
        imageHeight=float(HEIGHT),
        imageWidth=float(WIDTH),
    )
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    names, (mask,) = read_labelme([path], None, workers=1)
    assert names == ("10", "7")
    assert mask.size() == mask.read().shape == (HEIGHT, WIDTH)


def test_a_circle_goes_through_its_second_point(tmp_path: Path) -> None:
    label = draw(tmp_path, shape("a", [[30, 5], [36, 13]], "circle"))  # radius 10, cut off above
    distance = np.hypot(X - 30, Y - 5)
    assert np.all(label[distance < 9.3] == 1)
    assert np.all(label[distance > 10.7] == 0)


def test_a_mask_of_the_assistant(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((7, 9)) < 0.5
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    expected[30:37, 50:59] = 2 * pixels
    label = draw(tmp_path, shape("b", [[50.0, 30.0], [58.0, 36.0]], "mask", mask=bitmap(pixels * 255)))
    np.testing.assert_array_equal(label, expected)


def test_outside_is_cut_off(tmp_path: Path) -> None:
    label = draw(tmp_path, shape("a", [[-50, -50], [9, -50], [9, 1000], [-50, 1000]]))
    np.testing.assert_array_equal(label, X <= 9)
    assert not draw(tmp_path, shape("a", [[70, 50], [90, 50], [90, 70]])).any()


def test_later_shapes_lie_on_top_and_special_labels(tmp_path: Path) -> None:
    label = draw(
        tmp_path,
        shape("c", [[0, 0], [30, 30]], "rectangle"),
        shape("a", [[10, 10], [40, 35]], "rectangle"),
        shape("__ignore__", [[0, 0], [4, 4]], "rectangle"),
        shape("_background_", [[12, 12], [14, 14]], "rectangle"),
    )
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    expected[:31, :31] = 3
    expected[10:36, 10:41] = 1
    expected[:5, :5] = 255
    expected[12:15, 12:15] = 0
    np.testing.assert_array_equal(label, expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_classes_are_alphabetical_or_as_listed(tmp_path: Path, workers: int) -> None:
    box = [[1, 1], [5, 5]]
    paths = [
        write(tmp_path / "1.json", shape("dog", box, "rectangle"), shape("__ignore__", box, "rectangle")),
        write(tmp_path / "2.json", shape(" cat ", box, "rectangle")),
        write(tmp_path / "3.json"),
    ]
    names, masks = read_labelme(paths, None, workers)
    assert names == ("cat", "dog")
    assert [mask.read().max() for mask in masks] == [255, 1, 0]
    listed = tmp_path / "labels.txt"
    listed.write_text("__ignore__\n_background_\ndog\nzebra\ncat\n")  # as labelme's own examples have it
    names, masks = read_labelme(paths, listed, workers)
    assert names == ("dog", "zebra", "cat")
    assert [mask.read().max() for mask in masks] == [255, 3, 0]
    listed.write_text("dog\n")
    with pytest.raises(UserError, match=r"2\.json: label 'cat' is not in .*labels\.txt; add it there"):
        read_labelme(paths, listed, workers)


def test_shapes_that_enclose_nothing_are_left_out_with_one_line(tmp_path: Path, messages: list[str]) -> None:
    nothing = [
        shape("b", [[1, 1], [9, 9]]),  # a polygon of two points
        shape("b", [[1, 1], [9, 9]], "line"),
        shape("b", [[1, 1], [9, 9], [9, 1]], "linestrip"),
        shape("b", [[1, 1]], "point"),
    ]
    assert draw(tmp_path, *nothing, shape("a", [[20, 20], [22, 22]], "rectangle")).sum() == 9
    assert messages == [f"{tmp_path / 'x.json'} (1 files): 4 shapes enclose nothing and are left out"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"points": []}, "'label' is missing or not a string"),
        (shape(" ", [[1, 1], [5, 5], [5, 1]]), "'label' is empty"),
        (shape(True, [[1, 1], [5, 5], [5, 1]]), "'label' is missing or not a string"),
        (5, "not an object with 'label' and 'points'"),
        (shape("a", [[1, 1], [5, 5], [5, 1]], "rotation"), "a rotation has 4 points, this one 3"),
        (shape("a", [[0, 0], [1e6, 0]] * 6), "an outline is longer than 10,000,000 pixels"),
        (
            shape("a", [[1, 1], [5, 5]], "star"),
            "has type 'star'; expected one of polygon, rectangle, rotation, circle,",
        ),
        (shape("a", [[1, 1], [5, 5]], ["star"]), r"has type \['star'\]"),
        (shape("a", [[1, 1]], "rectangle"), "a rectangle has 2 points, this one 1"),
        (shape("a", [[1, 1], [2, 2], [3, 3]], "circle"), "a circle has 2 points, this one 3"),
        (shape("a", [1, 1, 5, 5, 5, 1]), "'points' is not a list of x, y"),
        (shape("a", [[1, 1, 1], [5, 5, 1], [5, 1, 1]]), "'points' is not a list of x, y"),
        (shape("a", [["x", 1], [5, 5], [5, 1]]), "'points' is not a list of x, y"),
        (shape("a", None), "'points' is not a list of x, y"),
        (shape("a", [[1, 1], [5, 5], [5, float("nan")]]), "a point is too far outside the image"),
        (shape("a", [[1, 1], [5, 5], [5, 1e30]]), "a point is too far outside the image"),
        (shape("a", [[1, 1], [5, 5]], "mask"), r"'mask' is not a PNG in base64"),
        (shape("a", [[1, 1], [5, 5]], "mask", mask="%%"), r"'mask' is not a PNG in base64"),
        (shape("a", [[1, 1], [5, 5]], "mask", mask="aaaa"), r"not a readable label"),
    ],
)
def test_bad_shapes_are_one_line(tmp_path: Path, entry: Any, message: str) -> None:
    path = write(tmp_path / "x.json", shape("a", [[0, 0], [9, 9]], "rectangle"), entry)
    with pytest.raises(UserError, match=rf"x\.json: shape 2: ({message})") as error:
        read_labelme([path], None, workers=1)
    assert "\n" not in str(error.value)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _coco(path: Path) -> None:
    path.write_text('{"images": [], "annotations": [], "categories": []}')


def _list(path: Path) -> None:
    path.write_text("[]")


def _old(path: Path) -> None:
    write(path, imageHeight=None)


def _huge(path: Path) -> None:
    write(path, imageHeight=10**9)


def _half_a_character(path: Path) -> None:
    write(path, shape("cat\ud800", [[1, 1], [5, 5]], "rectangle"))


def _many(path: Path) -> None:
    write(path, *(shape(f"class{number}", [[1, 1], [5, 5]], "rectangle") for number in range(255)))


def _none(path: Path) -> None:
    write(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_truncate, r"x\.json: not valid JSON \(.*\); save it in labelme again"),
        (_coco, r"x\.json: not a labelme file: it has no list 'shapes'"),
        (_list, r"x\.json: not a labelme file"),
        (_old, r"x\.json: 'imageHeight' is missing or not a whole number; open and save it in labelme"),
        (_huge, r"x\.json: no image has 'imageHeight' 1000000000 and 'imageWidth' 60; open and save it in labelme"),
        (_half_a_character, r"class 1, 'cat\\ud800', is not text that can be written"),
        (_many, "255 classes; masks have room for 254"),
        (_none, "no class in it; expected 1 to 254"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    path = write(tmp_path / "x.json", shape("a", [[0, 0], [9, 9]], "rectangle"))
    spoil(path)
    with pytest.raises(UserError, match=message) as error:
        read_labelme([path], None, workers=1)
    assert "\n" not in str(error.value)
