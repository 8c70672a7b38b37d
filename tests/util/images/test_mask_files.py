"""util.images.mask_files: what masks of all kinds mean; the object is a square of 576 pixels unless told otherwise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageDraw, ImageFilter

from util.errors import UserError
from util.images import read_label, write_label
from util.images.mask_files import doubt_about, object_of, read_mask, read_mask_colours, read_object

OBJECT = np.zeros((48, 64), dtype=bool)
OBJECT[10:34, 20:44] = True
WHITE = np.where(OBJECT, 255, 0).astype(np.uint8)


def labels(**values: int) -> np.ndarray:
    """The object, with a value of its own, and others: ``left``, ``right``."""
    label = np.where(OBJECT, values.get("inside", 1), 0).astype(np.uint8)
    label[:, :8] = values.get("left", 0)
    label[:, -8:] = values.get("right", 0)
    return label


def channels(*values: np.ndarray | int) -> np.ndarray:
    return np.dstack([np.broadcast_to(value, OBJECT.shape) for value in values]).astype(np.uint8)


def save(path: Path, pixels: np.ndarray | Image.Image, **options: Any) -> Path:
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return path


def palette(transparent: bytes | None = None) -> tuple[Image.Image, dict[str, Any]]:
    """Index 0 is the object, 1 the background, as programs that shrink PNGs write it."""
    image = Image.fromarray((~OBJECT).astype(np.uint8), mode="P")
    image.putpalette([255, 0, 0, 0, 0, 0])
    return image, {} if transparent is None else {"transparency": transparent}


PHOTOGRAPH = np.random.default_rng(0).integers(0, 255, (*OBJECT.shape, 3), dtype=np.uint8)
# What is saved under which name, and what is said about it.
OBJECTS: dict[str, tuple[str, np.ndarray | Image.Image, str]] = {
    "white": ("m.png", WHITE, "value 255 is the object, 576 pixels"),
    "ones": ("m.png", WHITE // 255, "value 1 is the object, 576 pixels"),
    "one bit": ("m.png", OBJECT, r"one bit per pixel"),
    "one bit, TIFF": ("m.tif", OBJECT, r"one bit per pixel"),
    "16 bits": ("m.png", WHITE.astype(np.uint16) * 257, r"value 255 .*uint16"),
    "16 bits, small": ("m.tif", (WHITE // 255).astype(np.uint16), r"value 1 .*uint16"),
    "shares": ("m.tif", np.where(OBJECT, 0.9, 0.2).astype(np.float32), "float32; shares from 0 to 1, cut at 0.5"),
    "JPEG": ("m.jpg", WHITE, r"a JPEG; soft edges between 0 and 255, cut at 128"),
    "JPEG in RGB": ("m.jpg", channels(WHITE, WHITE, WHITE), r"soft edges"),
    "GIF": ("m.gif", WHITE, "the object"),
    "BMP": ("m.bmp", WHITE, "value 255"),
    "grey in RGB": ("m.png", channels(WHITE, WHITE, WHITE), "grey in three channels"),
    "a colour": ("m.png", channels(WHITE, 0, WHITE // 2), r"has the colour 255 0 127"),
    "alpha": ("m.png", channels(200, 30, 30, WHITE), r"transparent is background; what is opaque is the object"),
    "alpha, painted in black": ("m.png", channels(0, 0, 0, WHITE), "what is opaque"),
    "alpha of half": ("m.png", channels(200, 30, 30, WHITE // 2), "what is opaque"),
    "a cut-out": ("m.png", np.dstack([PHOTOGRAPH, WHITE]), "what is opaque"),
    "white on black, opaque": ("m.png", channels(WHITE, WHITE, WHITE, 255), "grey in three channels"),
    "white on black, partly transparent": (
        "m.png",
        channels(WHITE, WHITE, WHITE, np.where(OBJECT | (np.arange(64) > 5), 255, 0)),
        "value 255",
    ),
    "grey and alpha": ("m.png", channels(70, WHITE), "what is opaque"),
    "a class and void": (
        "m.png",
        labels(inside=15, left=255),
        "value 15 is the object, 576 pixels, 255 is not counted",
    ),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_the_object_is_understood(tmp_path: Path, name: str) -> None:
    file, pixels, understood = OBJECTS[name]
    reading = read_object(save(tmp_path / file, pixels))
    assert ((reading.ids == 1) == OBJECT).all()
    assert re.search(understood, reading.understood)
    assert np.unique(reading.ids).tolist() == ([0, 1, 255] if "void" in name else [0, 1])


def test_soft_edges_are_cut_at_half(tmp_path: Path) -> None:
    """Hard 27,858 pixels, soft as many to a thousandth; with 255 as void there would be none."""
    image = Image.new("L", (300, 240))
    ImageDraw.Draw(image).ellipse([40, 30, 250, 199], fill=255)
    hard = read_object(save(tmp_path / "hard.png", image))
    for name, soft in {
        "smooth.png": image.filter(ImageFilter.GaussianBlur(2)),
        "resized.png": image.resize((900, 720), Image.Resampling.BICUBIC).resize((300, 240), Image.Resampling.BOX),
        "photo.jpg": image,
    }.items():
        reading = read_object(save(tmp_path / name, soft))
        assert abs(int(reading.ids.sum()) - int(hard.ids.sum())) <= 30, name
        assert "soft edges between 0 and 255, cut at 128" in reading.understood
        assert np.unique(reading.ids).tolist() == [0, 1]


def test_palettes_are_read_by_index_and_transparency(tmp_path: Path) -> None:
    write_label(tmp_path / "voc.png", labels(inside=15, right=255))
    assert read_mask(tmp_path / "voc.png").understood == ""
    image, options = palette(transparent=b"\xff\x00")  # the index of the background is transparent
    assert ((read_object(save(tmp_path / "small.png", image, **options)).ids == 1) == OBJECT).all()
    image = Image.open(tmp_path / "voc.png")
    reading = read_mask(save(tmp_path / "first.png", image, transparency=0))
    assert reading.understood == "" and (reading.ids == read_label(tmp_path / "voc.png")).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_masks_are_turned_like_images(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = save(tmp_path / f"m{suffix}", WHITE, exif=exif)
    image = cv2.imread(str(path)) if suffix != ".tif" else cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert ((image[..., 0] > 127) == (read_object(path).ids == 1)).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.uint16, np.float32])
def test_arrays_are_understood_alike(dtype: type) -> None:
    assert ((object_of(OBJECT.astype(dtype), "mask").ids == 1) == OBJECT).all()
    assert ((object_of(channels(9, 9, 9, WHITE), "mask").ids == 1) == OBJECT).all()
    empty: np.ndarray = np.zeros((0, 4), dtype=dtype)
    text, colours = np.full((4, 5), "a"), np.ones((4, 5, 3))
    for wrong in (empty, text, colours, np.zeros((2, 3, 4, 5)), -OBJECT.astype(int), np.full((4, 5), np.nan)):
        with pytest.raises(UserError, match=r"^mask: "):
            object_of(wrong, "mask")


def test_one_of_several_values_is_chosen(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", labels(inside=3, left=7, right=255))
    with pytest.raises(UserError, match=r"m\.png: several values, 3, 7, 255; choose the object's with --class VALUE"):
        read_object(path)
    with pytest.raises(UserError, match=r"m\.png: no pixel has the value 4 of --class, only 3, 7, 255"):
        read_object(path, 4)
    assert ((read_object(path, 3).ids == 1) == OBJECT).all()
    assert (read_object(path, 7).ids[:, :8] == 1).all() and (read_object(path, 7).ids[:, -8:] == 255).all()
    assert (read_object(path, 255).ids == (labels(inside=3, right=255) == 255)).all()


MISTAKES: dict[str, tuple[str, np.ndarray, str]] = {
    "nothing": ("m.png", np.zeros((5, 6), np.uint8), "marks no object"),
    "all transparent": ("m.png", channels(1, 2, 3, 0), "marks no object"),
    "a photograph": ("m.png", PHOTOGRAPH, r"\d+ colours \(.*, \.\.\.\); paint the object in one colour on black"),
    "two colours": ("m.png", channels(WHITE, labels(inside=0, left=90), 0), r"2 colours \(0 90 0, 255 0 0\)"),
    "grey levels": ("m.png", PHOTOGRAPH[..., 0], r"\d+ grey levels, not labels; save labels as 8-bit PNG"),
    "classes in a JPEG": ("m.jpg", labels(inside=90, left=180, right=250), r"\d+ grey levels, not labels"),
    "too many ids": (
        "m.png",
        np.arange(48 * 64, dtype=np.uint16).reshape(48, 64),
        "values up to 3071; expected 0 to 255",
    ),
    "half transparent": ("m.png", channels(0, 0, 0, labels(inside=255, left=100)), "3 levels of both"),
    "another format": ("m.webp", WHITE, "not a readable mask; expected PNG, TIFF, BMP, GIF, JPEG"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_be_understood_is_one_line(tmp_path: Path, name: str) -> None:
    file, pixels, message = MISTAKES[name]
    with pytest.raises(UserError, match=rf"^{tmp_path}/{file}: .*{message}") as error:
        read_object(save(tmp_path / file, pixels))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "pixels", [channels(WHITE, 0, 0), channels(200, 30, 30, WHITE), channels(WHITE, labels(left=90), 0)]
)
def test_colours_mean_nothing_among_several_files(tmp_path: Path, pixels: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"m\.png: .*in colour \(.*`.*prepare folder --colours`"):
        read_mask(save(tmp_path / "m.png", pixels))


def test_label_maps_are_their_own_ids(tmp_path: Path) -> None:
    for values in ({"inside": 1}, {"inside": 20, "left": 3, "right": 255}, {"inside": 255}, {"inside": 0}):
        path = save(tmp_path / "m.png", labels(**values))
        assert (read_mask(path).ids == read_label(path)).all() and read_mask(path).understood == ""


def test_colours_and_what_is_visible_of_them(tmp_path: Path) -> None:
    colours, visible = read_mask_colours(save(tmp_path / "m.png", channels(200, 30, 30, WHITE)))
    assert (colours == (200, 30, 30)).all() and (visible == OBJECT).all()
    assert read_mask_colours(save(tmp_path / "m.png", channels(200, 30, 30))).visible.all()


@pytest.mark.parametrize(
    ("objects", "doubt"),
    [
        (np.ones_like(OBJECT), r"covers 100\.0 % of the image; is the mask inverted\?"),
        (~OBJECT, r"covers 81\.2 % of the image and all of its border; is the mask inverted\?"),
        (np.arange(48 * 64).reshape(48, 64) > 100, r"covers 96\.7 % of the image; is the mask inverted\?"),
        (OBJECT, None),
        (np.indices(OBJECT.shape)[0] > 8, None),
    ],
)
def test_masks_that_may_be_inverted_are_doubted(objects: np.ndarray, doubt: str | None) -> None:
    said = doubt_about(objects.astype(np.uint8))
    assert said is None if doubt is None else said is not None and re.search(doubt, said)
