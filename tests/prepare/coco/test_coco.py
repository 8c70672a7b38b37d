"""COCO-20i from COCO's downloads: the published layout, safe to interrupt, an error of its own for every mistake."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from episodes.lists import read_list
from episodes.protocols import PROTOCOLS, Benchmark, protocol
from prepare.__main__ import main
from tests.prepare.coco.small_coco import (
    CATEGORIES,
    HEIGHT,
    WIDTH,
    annotation,
    content,
    image,
    labels,
    rectangle,
    write_annotations,
    write_coco,
)
from tests.small_disk import mounted_disk
from util.errors import UserError, run_command
from util.files import PROJECT
from util.images import read_label, write_image, write_label
from util.locks import only_process_in


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """``train2014``, ``val2014`` and ``annotations``, as COCO's archives are unpacked."""
    write_coco(tmp_path / "coco")
    return tmp_path / "coco"


def arguments(coco: Path, *options: object, files: list[Path] | None = None) -> list[str]:
    """The command that makes ``data`` and ``lists`` next to ``coco``."""
    files = files or [coco / "annotations" / f"instances_{split}2014.json" for split in ("train", "val")]
    options = ("--root", coco.parent / "data", "--lists", coco.parent / "lists", "--workers", 1, *options)
    return ["coco", "--images", str(coco), "--annotations", *map(str, files), *map(str, options)]


def prepare(coco: Path, *options: object, files: list[Path] | None = None) -> Path:
    main(arguments(coco, *options, files=files))
    return coco.parent / "data" / "COCO2014"


def written(coco: Path) -> dict[str, bytes]:
    """Every file that the command made, without its lock."""
    folders = (coco.parent / "data", coco.parent / "lists")
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(coco.parent).as_posix(): path.read_bytes() for path in files}


def spoil(coco: Path, change: Callable[[dict[str, Any]], None], split: str = "train") -> None:
    path = coco / "annotations" / f"instances_{split}2014.json"
    value = json.loads(path.read_text())
    change(value)
    write_annotations(path, value)


def test_layout_labels_and_lists(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = prepare(coco)
    for split in ("train", "val"):
        names = [f"COCO_{split}2014_{number:012d}" for number in (1, 2, 3, 4)]
        lines = (coco.parent / "lists" / "coco" / f"{split}.txt").read_text().splitlines()
        assert lines == [f"{split}2014/{name}.jpg annotations/{split}2014/{name}.png" for name in names]
        for name, expected in zip(names, labels().values(), strict=True):
            image = root / f"{split}2014" / f"{name}.jpg"
            assert image.is_symlink() and image.resolve() == coco / f"{split}2014" / f"{name}.jpg"
            label = root / "annotations" / f"{split}2014" / f"{name}.png"
            np.testing.assert_array_equal(read_label(label), expected)
            assert Image.open(label).mode == "P"
        assert len(list((root / "annotations" / f"{split}2014").iterdir())) == 4
    # A fifth of four images is none.
    assert sorted(path.name for path in (coco.parent / "lists" / "coco").iterdir()) == ["train.txt", "val.txt"]
    log = capsys.readouterr().err
    assert "lists/coco/train.txt: 4 images, 82,077 fewer than the benchmark's 82,081" in log
    assert "lists/coco/val.txt: 4 images, 40,133 fewer than the benchmark's 40,137" in log


def test_crowds_can_be_ignored(coco: Path) -> None:
    root = prepare(coco, "--crowd", "ignore")
    for number, expected in labels(crowd=255).items():
        label = root / "annotations" / "val2014" / f"COCO_val2014_{number:012d}.png"
        np.testing.assert_array_equal(read_label(label), expected)


def test_the_benchmarks_lists_are_recognised(
    coco: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = "".join(f"COCO_val2014_{number:012d}\n" for number in (1, 2, 3, 4))
    digest = hashlib.sha256(ids.encode()).hexdigest()

    def expect(val_digest: str) -> None:
        benchmarks = {"train": Benchmark(4, None), "val": Benchmark(4, val_digest)}
        monkeypatch.setitem(PROTOCOLS, "coco", replace(protocol("coco"), benchmarks=benchmarks))

    expect(digest)
    prepare(coco)
    log = capsys.readouterr().err
    assert "train.txt: 4 images, as many as the benchmark's" in log
    assert "val.txt: 4 images, exactly the benchmark's" in log
    expect("another")
    prepare(coco)
    assert "val.txt: 4 images, as many as the benchmark's, but others" in capsys.readouterr().err


def test_shares_of_the_training_list(coco: Path) -> None:
    def repeat(value: dict[str, Any]) -> None:
        for number in range(100, 136):
            name = f"COCO_train2014_{number:012d}.jpg"
            shutil.copy(coco / "train2014" / "COCO_train2014_000000000001.jpg", coco / "train2014" / name)
            value["images"].append({**value["images"][0], "id": number, "file_name": name})
            value["annotations"].append(annotation(number, number, 1, [rectangle(0, 0, 9, 9)]))

    spoil(coco, repeat)
    root = prepare(coco)
    lists = [coco.parent / "lists" / "coco" / f"train{share}.txt" for share in ("", "_20", "_10", "_5")]
    images = [read_list(path, root, need_labels=True).images for path in lists]
    assert [len(names) for names in images] == [40, 8, 4, 2]
    assert set(images[0]) > set(images[1]) > set(images[2]) > set(images[3])
    assert not lists[0].with_name("val_20.txt").exists()


def test_one_file_alone(coco: Path) -> None:
    root = prepare(coco, files=[coco / "annotations" / "instances_val2014.json"])
    assert (root / "annotations" / "val2014").is_dir() and not (root / "annotations" / "train2014").exists()
    assert [path.name for path in (coco.parent / "lists" / "coco").iterdir()] == ["val.txt"]
    # The other half joins it.
    prepare(coco)
    assert (coco.parent / "lists" / "coco" / "train.txt").exists()


def test_annotations_under_any_name(coco: Path) -> None:
    prepare(coco)
    expected = written(coco)
    shutil.rmtree(coco.parent / "data")
    shutil.rmtree(coco.parent / "lists")
    files = [coco / "annotations" / f"instances_{split}2014.json" for split in ("train", "val")]
    train = files[0].rename(coco / "mine.json")
    prepare(coco, "--train", train, files=files[1:])
    assert written(coco) == expected
    validation = files[1].rename(coco / "trained.json")
    command = ["--train", train, "--val", validation, "--root", coco.parent / "data", "--lists", coco.parent / "lists"]
    main(["coco", "--images", str(coco), "--workers", "1", *map(str, command)])
    assert written(coco) == expected
    with pytest.raises(UserError, match=r"trained\.json: .*mine\.json is for train as well; give one of them"):
        prepare(coco, "--train", train, files=[validation])


def test_a_second_command_in_one_place_is_refused(coco: Path) -> None:
    root = coco.parent / "data" / "COCO2014"
    command = [sys.executable, "-m", "prepare", *arguments(coco)]
    with only_process_in(root):
        second = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert second.returncode == 2
    assert second.stderr.splitlines()[-1] == (
        f"error: {root}: process {os.getpid()} is working here; wait for it or choose another folder"
    )
    assert not written(coco)


def test_images_in_one_folder_and_names_of_2017(coco: Path) -> None:
    images = coco.parent / "images"
    images.mkdir()
    for split in ("train", "val"):
        for path in (coco / f"{split}2014").iterdir():
            path.rename(images / path.name.removeprefix(f"COCO_{split}2014_").replace("000000", split, 1))

    def rename(split: str) -> Callable[[dict[str, Any]], None]:
        def change(value: dict[str, Any]) -> None:
            for entry in value["images"]:
                entry["file_name"] = f"{split}2017/{split}{entry['id']:06d}.jpg"

        return change

    for split in ("train", "val"):
        spoil(coco, rename(split), split)
    root = prepare(coco, "--images", images)
    assert (root / "val2014" / "val000003.jpg").resolve() == images / "val000003.jpg"
    assert read_label(root / "annotations" / "train2014" / "train000001.png")[10, 10] == 1


def test_a_splits_own_folder_comes_first(coco: Path) -> None:
    def rename(value: dict[str, Any]) -> None:
        for entry in value["images"]:
            entry["file_name"] = f"{entry['id']}.jpg"

    for split in ("train", "val"):
        spoil(coco, rename, split)
        for path in (coco / f"{split}2014").iterdir():
            path.rename(path.with_name(f"{int(path.stem[-12:])}.jpg"))
    (coco / "val2014").rename(coco / "val2017")
    shutil.copy(coco / "train2014" / "2.jpg", coco / "1.jpg")
    (coco / "val2017" / "3.jpg").unlink()
    root = prepare(coco)
    assert (root / "train2014" / "1.jpg").resolve() == coco / "train2014" / "1.jpg"
    assert (root / "val2014" / "1.jpg").resolve() == coco / "val2017" / "1.jpg"
    assert (root / "val2014" / "3.jpg").resolve() == coco / "train2014" / "3.jpg"


def test_images_that_are_in_place_are_left_alone(coco: Path) -> None:
    root = coco.parent / "data" / "COCO2014"
    root.parent.mkdir()
    coco.rename(root)
    files = [root / "annotations" / f"instances_{split}2014.json" for split in ("train", "val")]
    before = {path: _identity(path) for path in root.rglob("*.jpg")}
    main(arguments(coco, "--images", root, files=files))
    assert {path: _identity(path) for path in root.rglob("*.jpg")} == before
    assert len((coco.parent / "lists" / "coco" / "val.txt").read_text().splitlines()) == 4


def _identity(path: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced or written, but not when it is read."""
    state = path.lstat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def test_images_are_copied_where_links_fail(coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links on this disk")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    copy = prepare(coco) / "val2014" / "COCO_val2014_000000000003.jpg"
    assert not copy.is_symlink() and copy.read_bytes() == (coco / "val2014" / copy.name).read_bytes()
    inode = copy.stat().st_ino
    prepare(coco)
    assert copy.stat().st_ino == inode


def test_a_second_run_draws_only_what_is_not_whole(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = prepare(coco) / "annotations" / "train2014"
    assert f"{folder}: complete" in capsys.readouterr().err
    before = written(coco)
    gone, cut, *others = sorted(folder.iterdir())
    times = [path.stat().st_mtime_ns for path in others]
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-1])
    (folder / f".{cut.name}.1").write_bytes(b"half")
    prepare(coco)
    assert f"{folder}: complete" in capsys.readouterr().err
    assert written(coco) == before
    assert [path.stat().st_mtime_ns for path in others] == times
    prepare(coco)
    assert f"{folder}: already complete" in capsys.readouterr().err
    assert written(coco) == before


def test_the_number_of_workers_changes_nothing(coco: Path) -> None:
    prepare(coco)
    alone = written(coco)
    shutil.rmtree(coco.parent / "data")
    prepare(coco, "--workers", 2)
    assert written(coco) == alone


def write_large_coco(folder: Path, count: int) -> Path:
    """Images that take a while; returns their annotations."""
    shape = (600, 800)
    write_image(folder / "train2014" / "0.jpg", np.zeros((*shape, 3), dtype=np.uint8))
    outlines = [rectangle(12 * number, 10 * number, 800 - 12 * number, 600 - 10 * number) for number in range(25)]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        if number:
            shutil.copy(folder / "train2014" / "0.jpg", folder / "train2014" / f"{number}.jpg")
        images.append({"id": number, "file_name": f"{number}.jpg", "height": shape[0], "width": shape[1]})
        for outline in outlines:
            category = (1, 3, 90)[len(annotations) % 3]
            annotations.append(annotation(len(annotations), number, category, [outline]))
    value = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    return write_annotations(folder / "annotations" / "instances_train2014.json", value)


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_bytes(tmp_path: Path) -> None:
    count = 48
    coco = tmp_path / "coco"
    files = [write_large_coco(coco, count)]
    command = [sys.executable, "-m", "prepare", *arguments(coco, "--workers", 2, files=files)]
    folder = tmp_path / "data" / "COCO2014" / "annotations" / "train2014"
    process = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE)
    while not any(folder.glob("[!.]*")) and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    # The pipe ends when the last process has let go of it: no worker is left behind.
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert 0 < len(list(folder.glob("[!.]*"))) < count
    assert not (tmp_path / "lists").exists()
    prepare(coco, files=files)
    continued = written(coco)
    shutil.rmtree(tmp_path / "data")
    prepare(coco, files=files)
    assert written(coco) == continued
    assert len(continued) == 2 * count + 5  # images and labels, the manifest, four lists


def test_a_full_disk_ends_in_one_line_and_the_command_continues(
    coco: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = Image.Image.save

    def fill_disk(self: Image.Image, path: Path, **options: Any) -> None:
        save(self, path, **options)
        if "000000000003" in path.name:
            path.write_bytes(path.read_bytes()[:50])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", fill_disk)
        with pytest.raises(SystemExit, match="2"):
            run_command(main, arguments(coco))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    label = coco.parent / "data/COCO2014/annotations/train2014/COCO_train2014_000000000003.png"
    assert line == f"error: {label}: No space left on device; free some space and run the same command again"
    assert sorted(path.name[-5] for path in label.parent.iterdir()) == ["1", "2"]
    prepare(coco)
    continued = written(coco)
    shutil.rmtree(coco.parent / "data")
    prepare(coco)
    assert written(coco) == continued


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for a few files."""
    with mounted_disk(tmp_path / "disk", "256k") as folder:
        yield folder


def test_a_disk_that_is_really_full_leaves_nothing_half_written(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = tmp_path / "coco"
    write_coco(coco)

    def add_images(value: dict[str, Any]) -> None:
        for number in range(100, 220):
            value["images"].append(image(number))
            value["annotations"].append(annotation(number, number, 1, [rectangle(5, 5, 30, 30)]))
            shutil.copy(coco / "train2014" / image(1)["file_name"], coco / "train2014" / image(number)["file_name"])

    spoil(coco, add_images)
    command = arguments(coco, "--root", small_disk / "data", "--lists", small_disk / "lists")
    with pytest.raises(SystemExit, match="2"):
        run_command(main, command)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "No space left on device; free some space and run the same command again" in line
    made = [path for path in small_disk.rglob("*.png") if not path.name.startswith(".")]
    assert made
    for path in made:
        assert read_label(path).shape == (HEIGHT, WIDTH)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    run_command(main, command)
    assert len((small_disk / "lists/coco/train.txt").read_text().splitlines()) == 124


def test_labels_of_other_settings_are_refused(coco: Path) -> None:
    folder = prepare(coco) / "annotations" / "train2014"
    before = written(coco)
    with pytest.raises(UserError, match=r"train2014\.json: made with other settings \(crowd is object there, ignore"):
        prepare(coco, "--crowd", "ignore")
    spoil(coco, lambda value: value["annotations"].pop())
    with pytest.raises(
        UserError, match=r"annotations is \w+ there, \w+ expected\); .* or delete .*annotations/train2014$"
    ):
        prepare(coco)
    assert written(coco) == before
    folder.with_suffix(".json").write_text("3")
    with pytest.raises(UserError, match=r"train2014\.json: int is there, an object \{\.\.\.\} expected"):
        prepare(coco)
    shutil.rmtree(folder)
    prepare(coco)


def test_labels_of_unknown_origin_are_refused(coco: Path) -> None:
    folder = coco.parent / "data" / "COCO2014" / "annotations" / "val2014"
    write_label(folder / "COCO_val2014_000000000001.png", np.zeros((HEIGHT, WIDTH), dtype=np.uint8))
    before = written(coco)
    with pytest.raises(UserError, match=r"val2014: holds labels, but there is no .*val2014\.json; choose another"):
        prepare(coco)
    assert written(coco) == before


def _lose_images(coco: Path) -> None:
    for path in (coco / "train2014").iterdir():
        path.unlink()


def _folder_for_image(coco: Path) -> None:
    _lose_image(coco)
    (coco / "val2014" / "COCO_val2014_000000000002.jpg").mkdir()


def _lose_image(coco: Path) -> None:
    (coco / "val2014" / "COCO_val2014_000000000002.jpg").unlink()


def _damage_annotations(coco: Path) -> None:
    spoil(coco, lambda value: value["annotations"][0].update(category_id=77))


def _change_categories(coco: Path) -> None:
    spoil(coco, lambda value: value["categories"].append({"id": 4, "name": "motorcycle"}), "val")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            _lose_images,
            r"--images .*coco: lacks 5 of 5 images that .*instances_train2014\.json names \(COCO_train2014_000000000001"
            r"\.jpg, COCO_train2014_000000000002\.jpg, COCO_train2014_000000000003\.jpg, \.\.\.\), also below it in "
            r"train2014, ",
        ),
        (
            _lose_image,
            r"lacks 1 of 5 images that .*val2014\.json names \(COCO_val2014_000000000002\.jpg\), also below it in ",
        ),
        (_folder_for_image, r"lacks 1 of 5 images that .*val2014\.json names \(COCO_val2014_000000000002\.jpg\), "),
        (_damage_annotations, r"instances_train2014\.json: annotation 10: category 77 is not in 'categories'"),
        (_change_categories, r"instances_val2014\.json: category 4 is not as in .*instances_train2014\.json"),
    ],
)
def test_bad_input_is_reported_before_writing(coco: Path, harm: Callable[[Path], None], message: str) -> None:
    harm(coco)
    with pytest.raises(UserError, match=message) as error:
        prepare(coco)
    assert "\n" not in str(error.value)
    assert not written(coco)


def test_images_without_objects_need_not_be_there(coco: Path) -> None:
    (coco / "train2014" / "COCO_train2014_000000000006.jpg").unlink()
    prepare(coco)


@pytest.mark.parametrize("workers", [1, 2])
def test_images_of_another_size(coco: Path, workers: int) -> None:
    path = coco / "train2014" / "COCO_train2014_000000000002.jpg"
    write_image(path, np.zeros((50, WIDTH, 3), dtype=np.uint8))
    with pytest.raises(UserError, match=rf"{path.name}: 60x50 pixels, but its annotations are for 60x40") as error:
        prepare(coco, "--workers", workers)
    assert "\n" not in str(error.value)
    path.write_text("not an image")
    with pytest.raises(UserError, match=rf"{path.name}: not a readable image"):
        prepare(coco, "--workers", workers)


def test_another_image_of_the_name_is_not_overwritten(coco: Path) -> None:
    taken = coco.parent / "data" / "COCO2014" / "val2014" / "COCO_val2014_000000000001.jpg"
    taken.parent.mkdir(parents=True)
    taken.write_text("something else")
    with pytest.raises(UserError, match=rf"{taken.name}: holds something other than .*choose another --root"):
        prepare(coco)
    assert taken.read_text() == "something else"


def test_annotations_that_leave_no_pixel(coco: Path) -> None:
    spoil(coco, lambda value: value.update(annotations=[value["annotations"][-1]]), "val")
    with pytest.raises(UserError, match=r"val2014\.json: none of its annotations leaves a pixel in its image"):
        prepare(coco)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["instances.json"], r"instances\.json: expected a name with either train or val"),
        (["instances_trainval2014.json"], "expected a name with either train or val"),
        (["a_val.json", "b_val.json"], r"b_val\.json: .*a_val\.json is for val as well; give one of them"),
        (["gone_train.json"], r"gone_train\.json: file not found; expected COCO's"),
    ],
)
def test_names_of_the_annotations(coco: Path, names: list[str], message: str) -> None:
    for name in names:
        if not name.startswith("gone"):
            write_annotations(coco / name, content())
    with pytest.raises(UserError, match=message):
        prepare(coco, files=[coco / name for name in names])


def test_command_line_mistakes_are_one_line(coco: Path) -> None:
    with pytest.raises(UserError, match="nowhere: folder not found"):
        prepare(coco, "--images", coco / "nowhere")
    with pytest.raises(UserError, match=re.escape("--crowd: invalid choice: 'both'")):
        prepare(coco, "--crowd", "both")
    with pytest.raises(UserError, match="required: --images"):
        main(["coco"])
    with pytest.raises(UserError, match=re.escape("no annotations: give --annotations, or --train and --val, COCO's")):
        main(["coco", "--images", str(coco)])
