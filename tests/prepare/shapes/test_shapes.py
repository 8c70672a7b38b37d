"""The drawn dataset: it depends on its settings only, labels fit the images, and it is safe to run again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prepare import shapes
from prepare.__main__ import main
from prepare.shapes.scene import CLASSES, draw_scene
from tests.prepare.taken_folder import taken
from util.errors import UserError
from util.files import read_json
from util.images import read_image, read_label
from util.seed import numpy_random

SIZE = 64


def draw(folder: Path, *, train: int = 9, val: int = 4, size: int = SIZE, seed: int = 123, workers: int = 1) -> Path:
    numbers = {"train": train, "val": val, "size": size, "seed": seed, "workers": workers}
    options = [argument for name, number in numbers.items() for argument in (f"--{name}", str(number))]
    main(["shapes", "--root", str(folder / "shapes"), "--lists", str(folder / "lists"), *options])
    return folder / "shapes"


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("[!.]*.*") if path.is_file()}


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    """Two images for each class, at the default size."""
    return [draw_scene(numpy_random("test", number), number % 20 + 1, 160) for number in range(40)]


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    alone, together = draw(tmp_path / "1", workers=1), draw(tmp_path / "2", workers=2)
    assert contents(alone) == contents(together)
    assert len(contents(alone)) == 2 * (9 + 4) + 1


def test_an_image_depends_on_seed_split_and_number_only(tmp_path: Path) -> None:
    few, many = contents(draw(tmp_path / "few", train=2)), contents(draw(tmp_path / "many", train=5))
    other = contents(draw(tmp_path / "other", train=2, seed=124))
    images = [name for name in few if name.endswith(".jpg")]
    assert all(few[name] == many[name] for name in images)
    assert all(few[name] != other[name] for name in images)
    assert few["JPEGImages/shapes_train_000000.jpg"] != few["JPEGImages/shapes_val_000000.jpg"]


def test_layout_lists_and_formats(tmp_path: Path) -> None:
    root = draw(tmp_path, train=3, val=2, size=96)
    lines = (tmp_path / "lists" / "train.txt").read_text().splitlines()
    assert len(lines) == 3
    assert len((tmp_path / "lists" / "val.txt").read_text().splitlines()) == 2
    for line in lines:
        image, label = line.split()
        assert read_image(root / image).shape == (96, 96, 3)
        assert read_label(root / label).shape == (96, 96)
        assert Image.open(root / label).mode == "P"
    assert read_json(root / "shapes.json") == {"version": 1, "train": 3, "val": 2, "size": 96, "seed": 123}


def test_labels_are_background_classes_and_void(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for number, (image, label) in enumerate(scenes):
        assert image.shape == (160, 160, 3) and image.dtype == np.uint8
        assert label.shape == (160, 160) and label.dtype == np.uint8
        assert set(np.unique(label)) <= {*range(21), 255}
        assert 1 <= len(set(np.unique(label)) - {0, 255}) <= 3
        # What an episode needs at this size (config/shapes/base.yaml, min_area).
        assert np.count_nonzero(label == number % 20 + 1) >= 400


def test_every_class_has_a_silhouette_of_its_own() -> None:
    assert len({family for family, _ in CLASSES}) == len(CLASSES) == 20
    assert len({(look.pattern, look.frequency) for _, look in CLASSES}) == 20


def test_void_separates_whatever_meets(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for _, label in scenes:
        for first, second in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            differs = first != second
            assert differs.any()
            assert np.all((first[differs] == 255) | (second[differs] == 255))
        # A band of two pixels: no void pixel is farther than one from a labelled one.
        labelled = np.pad(label != 255, 1, mode="edge")
        near = labelled[2:, 1:-1] | labelled[:-2, 1:-1] | labelled[1:-1, 2:] | labelled[1:-1, :-2]
        assert np.mean(near[label == 255]) > 0.9


def test_a_second_run_draws_only_what_is_missing(tmp_path: Path) -> None:
    root = draw(tmp_path)
    before = contents(root)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("[!.]*.*")}
    gone = root / "JPEGImages" / "shapes_train_000003.jpg"
    gone.unlink()
    (tmp_path / "lists" / "val.txt").unlink()
    draw(tmp_path)
    assert contents(root) == before
    assert (tmp_path / "lists" / "val.txt").exists()
    untouched = [path for path in times if path.stem != gone.stem]
    assert all(path.stat().st_mtime_ns == times[path] for path in untouched)


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    draw(tmp_path)
    with pytest.raises(
        UserError, match=r"shapes\.json: made with other settings \(val is 4 there, 5 expected; seed is"
    ):
        draw(tmp_path, val=5, seed=7)
    (tmp_path / "shapes" / "shapes.json").write_text("[]")
    with pytest.raises(UserError, match=r"shapes\.json: list is there, an object \{\.\.\.\} expected"):
        draw(tmp_path)


def test_a_folder_of_other_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shapes" / "JPEGImages").mkdir(parents=True)
    (tmp_path / "shapes" / "JPEGImages" / "photo.jpg").touch()
    with pytest.raises(UserError, match=r"holds images, but there is no .*choose an empty --root"):
        draw(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shapes", "--size", "8"], "--size: 8 is not a number from 64 to 1024"),
        (["shapes", "--train", "many"], "--train: 'many' is not a whole number of at least 1"),
        (["shape"], "invalid choice: 'shape'"),
        ([], "required: NAME"),
    ],
)
def test_command_line_mistakes_are_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        main(arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_two_commands_in_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "only_process_in", taken)
    with pytest.raises(UserError, match=r"shapes: taken$"):
        draw(tmp_path)
    assert not list(tmp_path.iterdir())
