"""``python -m prepare folder`` with masks of every kind, and how the kinds are distinguished."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from episodes.class_names import dataset_names
from episodes.lists import read_list
from tests.prepare.own_images import SHAPE, prepare, write_random_image, written
from util.config import load_config
from util.errors import UserError
from util.images import read_label, voc_colours, write_image, write_label

HEIGHT, WIDTH = SHAPE
NAMES = ["ant", "bee", "cat", "dog", "eel", "fox"]
# How the masks are written, and what --masks and the other options are then.
Kind = Callable[[Path, dict[str, np.ndarray]], list[object]]


def labels(images: Path) -> dict[str, np.ndarray]:
    """The expected masks of the images: a box of class 1 to 6, nothing in every fourth."""
    expected = {}
    for number in range(10):
        label = np.zeros(SHAPE, dtype=np.uint8)
        if number % 4 != 3:
            label[10:30, 10:40] = number % 6 + 1
        expected[f"{'ab'[number % 2]}/photo{number}"] = label
    return expected


def value_of(label: np.ndarray) -> int:
    return int(label.max())


def colour_pngs(images: Path, expected: dict[str, np.ndarray]) -> list[object]:
    colours = voc_colours()
    for stem, label in expected.items():
        write_image(images.parent / "colours" / f"{stem}.png", colours[label])
    table = images.parent / "label_colors.txt"
    rows = enumerate(["background", *NAMES])
    table.write_text("".join(f"{name} {' '.join(map(str, colours[row]))}\n" for row, name in rows))
    return ["--masks", images.parent / "colours", "--colours", table]


def labelme_shapes(label: np.ndarray) -> list[dict[str, Any]]:
    if not label.any():
        return []
    name = NAMES[value_of(label) - 1]
    return [{"label": name, "points": [[10, 10], [39, 29]], "shape_type": "rectangle"}]


def labelme_jsons(folder: Path, expected: dict[str, np.ndarray]) -> None:
    for stem, label in expected.items():
        path = folder / f"{stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": labelme_shapes(label), "imageData": None}
        path.write_text(json.dumps(content))


def labelme_next_to_images(images: Path, expected: dict[str, np.ndarray]) -> list[object]:
    labelme_jsons(images, expected)
    return ["--masks", images]


def labelme_elsewhere(images: Path, expected: dict[str, np.ndarray]) -> list[object]:
    labelme_jsons(images.parent / "jsons", expected)
    return ["--masks", images.parent / "jsons"]


def coco_json(images: Path, expected: dict[str, np.ndarray]) -> list[object]:
    entries = list(enumerate(expected.items(), start=1))
    content = {
        "images": [
            {"id": number, "file_name": f"{stem}.jpg", "height": HEIGHT, "width": WIDTH}
            for number, (stem, _) in entries
        ],
        "annotations": [
            {
                "id": number,
                "image_id": number,
                "category_id": 10 * value_of(label),
                "segmentation": [[10, 10, 40, 10, 40, 30, 10, 30]],
            }
            for number, (_, label) in entries
            if label.any()
        ],
        "categories": [{"id": 10 * row, "name": name} for row, name in enumerate(NAMES, start=1)],
    }
    (images.parent / "instances.json").write_text(json.dumps(content))
    return ["--masks", images.parent / "instances.json"]


KINDS = [colour_pngs, labelme_next_to_images, labelme_elsewhere, coco_json]


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_every_kind_become_the_same_labels(project: Path, images: Path, kind: Kind, workers: int) -> None:
    expected = labels(images)
    options = [*kind(images, expected), "--val-share", 0.4, "--workers", workers]
    prepare(images, *options)
    root, seen = project / "data" / "mine", set()
    for split in ("train", "val"):
        part = read_list(project / "lists" / "mine" / f"{split}.txt", root, need_labels=True)
        for row in range(len(part)):
            image = part.image_path(row).resolve()
            stem = image.relative_to(images).with_suffix("").as_posix()
            np.testing.assert_array_equal(read_label(part.label_path(row)), expected[stem])
            assert not part.label_path(row).is_symlink()
            seen.add(stem)
    assert seen == set(expected)
    assert dataset_names(root) == dict(enumerate(NAMES, start=1))
    assert load_config("mine", "split3_mobilenetv2").DATA.classes == 6
    before, times = written(project), stamps(root / "SegmentationClassAug")
    prepare(images, *options)
    assert written(project) == before
    assert stamps(root / "SegmentationClassAug") == times


@pytest.mark.parametrize("kind", KINDS)
def test_another_size_than_the_image_is_reported(project: Path, images: Path, kind: Kind) -> None:
    options = kind(images, labels(images))
    write_random_image(images / "a" / "photo2.jpg", (HEIGHT, WIDTH + 1))
    before = written(project)
    with pytest.raises(UserError, match=r"the label is 60x50 pixels, but .*photo2\.jpg is 61x50") as error:
        prepare(images, *options)
    assert "\n" not in str(error.value)
    assert written(project) == before


@pytest.mark.parametrize("kind", KINDS)
def test_images_without_masks_are_listed_without_a_label(
    project: Path, images: Path, kind: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = labels(images)
    options = kind(images, {stem: label for stem, label in expected.items() if not stem.endswith(("5", "6"))})
    prepare(images, *options)
    assert f"{options[1]}: masks for 8 of 10 images" in capsys.readouterr().err
    listed = read_list(project / "lists" / "mine" / "train.txt", project / "data" / "mine", need_labels=False)
    unlabelled = [image for image, label in zip(listed.images, listed.labels, strict=True) if label is None]
    assert len(listed) == 10 and unlabelled == ["JPEGImages/photo6.jpg", "JPEGImages/photo5.jpg"]


def predictions(images: Path, expected: dict[str, np.ndarray]) -> list[object]:
    """A folder as predict.py leaves it, with the masks of ``expected``."""
    folder = images.parent / "predictions"
    for stem, label in expected.items():
        write_label(folder / f"{stem}_mask.png", label)
        for name in ("_probability_ant.png", "_probability_bee.png", "_overlay.jpg"):
            write_random_image(folder / f"{stem}{name}")
    for name in ("areas.csv", "predictions.json"):
        (folder / name).write_text("{}")
    return ["--masks", folder]


def test_masks_of_a_folder_of_predictions(project: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = dict(list(labels(images).items())[:3])
    options = predictions(images, {**expected, "a/gone": np.zeros(SHAPE, dtype=np.uint8)})
    write_label(images.parent / "predictions" / "b" / "photo9.png", np.full(SHAPE, 2, dtype=np.uint8))  # by hand
    prepare(images, *options)
    log = capsys.readouterr().err
    assert f"{options[1]}: masks for 4 of 10 images" in log and "1 masks have no image and are left out" in log
    listed = read_list(
        project / "lists/mine/train.txt", project / "data/mine", need_labels=True, leave_out_unlabelled=True
    )
    read = {image.split("/")[1]: read_label(listed.label_path(row)) for row, image in enumerate(listed.images)}
    assert read.keys() == {"photo0.jpg", "photo1.jpg", "photo2.jpg", "photo9.jpg"}
    for stem, label in expected.items():
        np.testing.assert_array_equal(read[f"{stem.partition('/')[2]}.jpg"], label)
    assert (read["photo9.jpg"] == 2).all()


def test_an_image_called_like_a_mask_has_a_mask_of_its_own(project: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("x", "x_mask", "y"), start=1):
        write_random_image(tmp_path / "in" / f"{name}.jpg")
        write_label(tmp_path / "masks" / f"{name}.png", np.full(SHAPE, number, dtype=np.uint8))
    (tmp_path / "masks" / "x.png").unlink()
    (tmp_path / "masks" / "y.png").rename(tmp_path / "masks" / "x_mask_mask.png")
    with pytest.raises(UserError, match=r"x_mask_mask\.png: .*x_mask\.png is a mask of the same image; keep one"):
        prepare(tmp_path / "in", "--masks", tmp_path / "masks")
    (tmp_path / "masks" / "x_mask_mask.png").rename(tmp_path / "masks" / "y_mask.png")
    prepare(tmp_path / "in", "--masks", tmp_path / "masks")
    lines = (project / "lists" / "mine" / "train.txt").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [1, 2, 2]


def painted(label: np.ndarray) -> np.ndarray:
    return np.where(label > 0, 255, 0).astype(np.uint8)


@pytest.mark.parametrize("others", ["painted", "predicted"])
def test_masks_in_black_and_white_are_of_one_class(
    project: Path, images: Path, others: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Painted by hand, alone or beside predicted ones, which have the value 1."""
    expected = {stem: np.minimum(label, 1) for stem, label in list(labels(images).items())[:3]}
    options = predictions(images, expected)
    if others == "predicted":
        prepare(images, *options)  # links, which give way to what is made of all masks
    for stem in list(expected)[: 3 if others == "painted" else 1]:
        write_label(images.parent / "predictions" / f"{stem}_mask.png", painted(expected[stem]))
    for _ in range(2):
        prepare(images, *options)
        assert f"255 is the object, class 1, in {3 if others == 'painted' else 1} masks" in capsys.readouterr().err
    for stem, label in expected.items():
        made = project / "data/mine/SegmentationClassAug" / f"{Path(stem).name}.png"
        np.testing.assert_array_equal(read_label(made), label)
        assert not made.is_symlink() and read_label(images.parent / "predictions" / f"{stem}_mask.png").max() > 0
    assert load_config("mine", "joint_mobilenetv2").DATA.classes == 1


@pytest.mark.parametrize("others", [(2,), (1, 255)])
def test_255_is_not_counted_where_it_may_mean_anything(
    project: Path, images: Path, others: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside several classes, and where it is known to mean what is not counted."""
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[:30] = 255
    other = np.zeros(SHAPE, dtype=np.uint8)
    other[:, : 10 * len(others)] = np.repeat(others, 10)
    prepare(images, *predictions(images, {"a/photo0": label, "a/photo2": other}))
    assert "1 masks hold 255 and no class; 255 is not counted" in capsys.readouterr().err
    np.testing.assert_array_equal(read_label(project / "data/mine/SegmentationClassAug/photo0.png"), label)


def test_jsons_without_an_image_are_reported(project: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = labelme_elsewhere(images, {**labels(images), "a/gone": np.zeros(SHAPE, dtype=np.uint8)})
    prepare(images, *options)
    assert f"{images.parent / 'jsons'}: 1 masks have no image and are left out" in capsys.readouterr().err


def test_images_that_are_pngs_with_jsons_next_to_them(project: Path, tmp_path: Path) -> None:
    expected = {f"p{number}": label for number, label in enumerate(labels(tmp_path).values())}
    for stem in expected:
        write_random_image(tmp_path / "in" / f"{stem}.png")
    labelme_jsons(tmp_path / "in", expected)
    prepare(tmp_path / "in", "--masks", tmp_path / "in")
    for stem, label in expected.items():
        made = project / "data" / "mine" / "SegmentationClassAug" / f"{stem}.png"
        np.testing.assert_array_equal(read_label(made), label)


def test_names_of_label_pngs(project: Path, images: Path) -> None:
    names = images.parent / "names.txt"
    names.write_text("\n".join([*NAMES, "gnu"]))
    prepare(images, "--masks", images.parent / "masks", "--class-names", names)
    assert dataset_names(project / "data" / "mine") == dict(enumerate([*NAMES, "gnu"], start=1))
    assert load_config("mine", "ssl_mobilenetv2").DATA.classes == 7
    names.write_text("\n".join(NAMES[:5]))
    with pytest.raises(UserError, match=r"masks: the masks go up to class 6, but --class-names has 5"):
        prepare(images, "--masks", images.parent / "masks", "--class-names", names)


def test_names_order_the_classes_of_labelme(project: Path, images: Path) -> None:
    expected = labels(images)
    names = images.parent / "names.txt"
    names.write_text("\n".join(reversed(NAMES)))
    prepare(images, *labelme_next_to_images(images, expected), "--class-names", names)
    made = read_label(project / "data" / "mine" / "SegmentationClassAug" / "photo0.png")
    np.testing.assert_array_equal(made, np.where(expected["a/photo0"] == 1, 6, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_goes_on(project: Path, images: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = labels(images)
    options = [*kind(images, expected), "--workers", 1]
    folder = project / "data" / "mine" / "SegmentationClassAug"

    def interrupt(path: Path, label: np.ndarray) -> None:
        if len(list(folder.glob("*.png"))) == 4:
            raise KeyboardInterrupt
        write_label(path, label)

    with monkeypatch.context() as patch:
        patch.setattr("prepare.folder.label_pngs.write_label", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(images, *options)
    assert not (project / "lists").exists() and not (project / "config" / "mine").exists()
    first = stamps(folder)
    prepare(images, *options)
    assert len(first) == 4 and first.items() <= stamps(folder).items()
    for stem, label in expected.items():
        np.testing.assert_array_equal(read_label(folder / f"{Path(stem).name}.png"), label)


def test_other_settings_are_refused(project: Path, images: Path) -> None:
    expected = labels(images)
    prepare(images, *labelme_next_to_images(images, expected))
    before = written(project)
    with pytest.raises(
        UserError, match=r"SegmentationClassAug\.json: made with other settings \(kind is labelme there"
    ):
        prepare(images, *coco_json(images, expected))
    with pytest.raises(UserError, match=r"SegmentationClassAug\.json: its masks were made from masks of another kind"):
        prepare(images, "--masks", images.parent / "masks")
    assert written(project) == before


def test_an_edited_json_is_drawn_again(project: Path, images: Path) -> None:
    expected = labels(images)
    options = labelme_next_to_images(images, expected)
    prepare(images, *options)
    labelme_jsons(images, {"a/photo2": expected["a/photo4"]})
    folder = project / "data" / "mine" / "SegmentationClassAug"
    before = stamps(folder)
    prepare(images, *options)
    after = stamps(folder)
    assert [name for name in after if after[name] != before[name]] == ["photo2.png"]
    np.testing.assert_array_equal(read_label(folder / "photo2.png"), expected["a/photo4"])


def spoil_as(images: Path, change: Callable[[np.ndarray], Image.Image], *, stem: str = "a/photo4") -> np.ndarray:
    """Write one mask of the folder in another way; returns what it means."""
    path = images.parent / "masks" / f"{stem}.png"
    label = read_label(path)
    change(label).save(path)
    return label


UNUSUAL: dict[str, tuple[Callable[[np.ndarray], Image.Image], str]] = {
    "16 bits": (lambda label: Image.fromarray(label.astype(np.uint16)), "values of type uint16"),
    "grey in RGB": (lambda label: Image.fromarray(np.dstack([label] * 3)), "grey in three channels"),
    "soft edges": (
        lambda label: Image.fromarray(np.where(label == 5, 200, 0).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(1)
        ),
        "soft edges between 0 and 200",
    ),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_masks_become_labels(
    project: Path, images: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, understood = UNUSUAL[kind]
    label = spoil_as(images, change)
    for _ in range(2):
        prepare(images, "--masks", images.parent / "masks")
        assert f"photo4.png (1 files): {understood}" in capsys.readouterr().err
    made = project / "data" / "mine" / "SegmentationClassAug"
    expected = np.where(label == 5, 200, 0) if kind == "soft edges" else label
    assert (read_label(made / "photo4.png") != expected).mean() < 0.02
    assert (read_label(made / "photo3.png") == read_label(images.parent / "masks" / "b" / "photo3.png")).all()
    assert not (made / "photo3.png").is_symlink()


def test_masks_are_found_under_the_names_that_macos_writes(project: Path, images: Path) -> None:
    (images / "a" / "photo4.jpg").rename(images / "a" / unicodedata.normalize("NFC", "caf\u00e9.jpg"))
    masks = images.parent / "masks"
    (masks / "a" / "photo4.png").rename(masks / "a" / unicodedata.normalize("NFD", "caf\u00e9.png"))
    (masks / "b" / "photo3.png").rename(masks / "b" / "Photo3.PNG")
    prepare(images, "--masks", masks)
    lists = [(project / "lists" / "mine" / f"{split}.txt").read_text() for split in ("train", "val")]
    assert len("".join(lists).splitlines()) == 10


def mixed(images: Path) -> list[object]:
    labelme_jsons(images.parent / "masks", {"b/photo3": np.zeros(SHAPE, dtype=np.uint8)})
    return ["--masks", images.parent / "masks"]


def a_table_with_labelme(images: Path) -> list[object]:
    return [*labelme_next_to_images(images, labels(images)), "--colours", "table.txt"]


def a_table_with_coco(images: Path) -> list[object]:
    return [*coco_json(images, labels(images)), "--colours", "table.txt"]


def names_with_coco(images: Path) -> list[object]:
    return [*coco_json(images, labels(images)), "--class-names", "names.txt"]


def names_with_a_table(images: Path) -> list[object]:
    return [*colour_pngs(images, labels(images)), "--class-names", "names.txt"]


def a_table_without_masks(images: Path) -> list[object]:
    return ["--colours", "table.txt"]


def colours_without_a_table(images: Path) -> list[object]:
    return colour_pngs(images, labels(images))[:2]


def an_unknown_colour(images: Path) -> list[object]:
    options = colour_pngs(images, labels(images))
    path = images.parent / "colours" / "a" / "photo4.png"
    pixels = np.zeros((*SHAPE, 3), dtype=np.uint8)
    pixels[:3, :5] = (1, 2, 3)
    write_image(path, pixels)
    return options


def another_number_of_classes(images: Path) -> list[object]:
    return [*coco_json(images, labels(images)), "--classes", "7"]


def a_damaged_json(images: Path) -> list[object]:
    options = coco_json(images, labels(images))
    path = images.parent / "instances.json"
    path.write_bytes(path.read_bytes()[:-30])
    return options


def a_single_image(images: Path) -> list[object]:
    for path in sorted(images.rglob("*.jpg"))[1:]:
        path.unlink()
    return ["--masks", images.parent / "masks"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (mixed, r"masks: holds masks of two kinds, .*a/photo0\.png and .*b/photo3\.json; keep one kind in a folder"),
        (a_table_with_labelme, r"--colours table\.txt: not with labelme's JSONs \(.*images\); leave it out"),
        (a_table_with_coco, r"--colours table\.txt: not with COCO's JSON \(.*instances\.json\)"),
        (names_with_coco, r"--class-names names\.txt: not with COCO's JSON"),
        (names_with_a_table, r"--class-names names\.txt: not with --colours, which names the classes"),
        (a_table_without_masks, r"--colours table\.txt: needs masks; give their folder with --masks"),
        (colours_without_a_table, r"a label must be an 8-bit palette .*prepare folder --colours.*\(and 7 more files\)"),
        (an_unknown_colour, r"photo4\.png: 15 pixels of colour 1 2 3 that .*label_colors\.txt lacks"),
        (another_number_of_classes, r"--classes 7: 6 classes have names; leave it out"),
        (a_damaged_json, r"instances\.json: not valid JSON"),
        (a_single_image, r"images: one image is too few with --masks"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    project: Path, images: Path, spoil: Callable[[Path], list[object]], message: str
) -> None:
    options = spoil(images)
    before = written(project)
    with pytest.raises(UserError, match=message) as error:
        prepare(images, *options)
    assert "\n" not in str(error.value)
    assert written(project) == before
