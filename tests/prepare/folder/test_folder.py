"""A dataset from a folder of images: links, lists and configuration, and an error of its own for every mistake."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from episodes.lists import read_list
from tests.prepare.own_images import SHAPE, prepare, written
from tests.prepare.taken_folder import taken
from util.config import experiments, load_config
from util.errors import UserError
from util.images import read_label, write_image, write_label

EXPERIMENTS = ["joint_mobilenetv2", *(f"split{fold}_mobilenetv2" for fold in range(4)), "ssl_mobilenetv2"]


def header(project: Path) -> list[str]:
    lines = (project / "config" / "mine" / "base.yaml").read_text().splitlines()
    return [line.removeprefix("# ") for line in lines if line.startswith("#")]


def test_images_alone(project: Path, images: Path) -> None:
    prepare(images)
    images_read = read_list(project / "lists" / "mine" / "train.txt", project / "data" / "mine", need_labels=False)
    assert images_read.images == tuple(f"JPEGImages/photo{number}.jpg" for number in (0, 2, 4, 6, 8, 1, 3, 5, 7, 9))
    assert set(images_read.labels) == {None}
    assert images_read.image_path(5).resolve() == images / "b" / "photo1.jpg"
    assert not (project / "lists" / "mine" / "val.txt").exists()
    assert [path.name for path in (project / "config" / "mine").iterdir()] == ["base.yaml"]
    assert experiments("mine") == EXPERIMENTS
    config = load_config("mine", "ssl_mobilenetv2")
    assert config.unsupervised and config.TRAIN.split == 5
    assert config.TRAIN.backbone == "mobilenetv2_100"
    assert config.DATA.data_root == project / "data" / "mine"
    assert config.DATA.train_list == project / "lists" / "mine" / "train.txt"
    assert config.DATA.min_area == round(2048 / (500 * 375) * 50 * 60)


def test_images_with_masks(project: Path, images: Path) -> None:
    prepare(images, "--masks", images.parent / "masks", "--val-share", 0.3)
    root = project / "data" / "mine"
    lists = project / "lists" / "mine"
    parts = [read_list(lists / f"{split}.txt", root, need_labels=True) for split in ("train", "val")]
    assert [len(part) for part in parts] == [7, 3]
    assert not set(parts[0].images) & set(parts[1].images)
    for part in parts:
        for row in range(len(part)):
            number = int(part.image_path(row).stem.removeprefix("photo"))
            assert set(np.unique(read_label(part.label_path(row)))) == {0, number % 6 + 1, 255}
    assert experiments("mine") == EXPERIMENTS
    assert load_config("mine", "split1_mobilenetv2").TRAIN.split == 1
    assert load_config("mine", "ssl_mobilenetv2").DATA.classes == 6


def test_the_configuration_starts_with_commands_that_exist(project: Path, images: Path) -> None:
    prepare(images, "--masks", images.parent / "masks")
    assert header(project) == [
        "mine: your own images (python -m prepare folder). Pseudo masks, unsupervised training, and its use:",
        "  bash masks/create.sh data mine",
        "  bash train.sh mine ssl_mobilenetv2",
        "  bash test.sh mine split0_mobilenetv2 TRAIN.weight=exp/mine/ssl_mobilenetv2/latest.pth",
        "With the masks of all classes besides:",
        "  bash train.sh mine joint_mobilenetv2",
        "Experiments that train with labels, and the classes that they hold back for the test:",
        "  split0_mobilenetv2: classes 1 to 2",
        "  split1_mobilenetv2: classes 3 to 4",
        "  split2_mobilenetv2: class 5",
        "  split3_mobilenetv2: class 6",
    ]


def test_one_class_has_no_folds(project: Path, images: Path) -> None:
    for path in (images.parent / "masks").rglob("*.png"):
        write_label(path, np.minimum(read_label(path), 1))
    prepare(images, "--masks", images.parent / "masks")
    assert (
        header(project)[-1]
        == "Experiments split0_mobilenetv2 to split3_mobilenetv2 need masks of at least two classes."
    )


def keep_masks(images: Path, *numbers: int) -> Path:
    """Leave the masks of these photographs only, all of class 1."""
    masks = images.parent / "masks"
    for path in masks.rglob("*.png"):
        if int(path.stem.removeprefix("photo")) in numbers:
            write_label(path, np.minimum(read_label(path), 1))
        else:
            path.unlink()
    return masks


def test_few_masks_are_all_for_training(project: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = keep_masks(images, 0, 1, 2, 3, 4)
    (project / "lists" / "mine").mkdir(parents=True)
    (project / "lists" / "mine" / "val.txt").write_text("of an earlier command")
    prepare(images)
    prepare(images, "--masks", masks)
    log = capsys.readouterr().err
    assert f"{masks}: masks for 5 of 10 images" in log
    assert "no test: no class is shown by 6 images with masks; all images are for training" in log
    listed = read_list(project / "lists" / "mine" / "train.txt", project / "data" / "mine", need_labels=False)
    assert len(listed) == 10 and sum(label is not None for label in listed.labels) == 5
    assert not (project / "lists" / "mine" / "val.txt").exists()
    # The configuration of the dataset without masks gave way, for its number of classes was a default.
    config = load_config("mine", "joint_mobilenetv2")
    assert config.DATA.classes == 1 and "  bash train.sh mine joint_mobilenetv2" in header(project)


def test_six_masks_of_a_class_give_a_test(project: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(images, "--masks", keep_masks(images, 0, 1, 2, 3, 4, 5))
    assert "they test on the class itself (images: 2, shots with each class: 1 at most)" in capsys.readouterr().err
    root, lists = project / "data" / "mine", project / "lists" / "mine"
    test = read_list(lists / "val.txt", root, need_labels=True)
    train = read_list(lists / "train.txt", root, need_labels=False)
    assert len(test) == 2 and len(train) == 8 and sum(label is not None for label in train.labels) == 4
    assert not set(test.images) & set(train.images)


def test_one_mask_is_too_few_for_a_task(project: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(images, "--masks", keep_masks(images, 3))
    assert "train.txt: an episode needs 2 images with 33 pixels of its class; too few show class 1 (1)" in (
        capsys.readouterr().err
    )


def test_an_edited_configuration_without_masks_is_kept(project: Path, images: Path) -> None:
    prepare(images)
    base = project / "config" / "mine" / "base.yaml"
    base.write_text(base.read_text().replace("min_area: 33", "min_area: 7"))
    with pytest.raises(UserError, match=r"config/mine: DATA\.classes is 20 there and 6 here; delete the folder"):
        prepare(images, "--masks", images.parent / "masks")


def test_a_second_run_changes_nothing_and_keeps_edited_configuration(project: Path, images: Path) -> None:
    prepare(images, "--masks", images.parent / "masks")
    base = project / "config" / "mine" / "base.yaml"
    base.write_text(base.read_text().replace("min_area: 33", "min_area: 7"))
    lists = {path: path.read_text() for path in (project / "lists").rglob("*.txt")}
    before = written(project)
    prepare(images, "--masks", images.parent / "masks")
    assert written(project) == before
    assert all(path.read_text() == text for path, text in lists.items())
    assert load_config("mine", "ssl_mobilenetv2").DATA.min_area == 7


def test_relative_options_start_at_the_working_directory(
    project: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images.parent)
    prepare(Path("images"), "--root", "out/mine", "--lists", "out/lists")
    assert (images.parent / "out" / "mine" / "JPEGImages" / "photo3.jpg").resolve() == images / "b" / "photo3.jpg"
    assert load_config("mine", "ssl_mobilenetv2").DATA.train_list == images.parent / "out" / "lists" / "train.txt"


def test_names_are_unique_and_free_of_blanks(project: Path, tmp_path: Path) -> None:
    image = np.zeros((*SHAPE, 3), dtype=np.uint8)
    for name in ("a/x.jpg", "b/x.jpg", "b/X.png", "a-x.jpg", "c/my photo.jpg", "c/._my photo.jpg"):
        write_image(tmp_path / "in" / name, image)
    (tmp_path / "in" / "c" / "notes.txt").touch()
    prepare(tmp_path / "in")
    names = (project / "lists" / "mine" / "train.txt").read_text().split()
    assert names == [f"JPEGImages/{name}" for name in ("a-x.jpg", "a-x_2.jpg", "b-X.png", "b-x_2.jpg", "my_photo.jpg")]


def test_masks_inside_the_image_folder_are_not_images(project: Path, images: Path) -> None:
    shutil.move(images.parent / "masks", images / "masks")
    prepare(images, "--masks", images / "masks")
    assert len(list((project / "data" / "mine" / "JPEGImages").iterdir())) == 10


def test_files_are_copied_where_links_fail(project: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links on this disk")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    for _ in range(2):  # the second run meets its own copies
        prepare(images)
    copy = project / "data" / "mine" / "JPEGImages" / "photo4.jpg"
    assert not copy.is_symlink()
    assert copy.read_bytes() == (images / "a" / "photo4.jpg").read_bytes()


def _truncate(images: Path, masks: Path) -> None:
    path = images / "a" / "photo2.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def _spoil_two(images: Path, masks: Path) -> None:
    for number in (2, 4):
        (images / "a" / f"photo{number}.jpg").write_text("not an image")


def _resize_mask(images: Path, masks: Path) -> None:
    write_label(masks / "a" / "photo2.png", np.zeros((50, 61), dtype=np.uint8))


def _rename_masks(images: Path, masks: Path) -> None:
    for path in masks.rglob("*.png"):
        path.rename(path.with_stem(f"{path.stem}_label"))


def _colour_mask(images: Path, masks: Path) -> None:
    cv2.imwrite(str(masks / "a" / "photo2.png"), np.full((*SHAPE, 3), (0, 0, 9), dtype=np.uint8))


def _empty_masks(images: Path, masks: Path) -> None:
    for path in masks.rglob("*.png"):
        write_label(path, np.zeros(SHAPE, dtype=np.uint8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_truncate, r"photo2\.jpg: truncated JPEG"),
        (_spoil_two, r"photo2\.jpg: not a readable image.* \(and 1 more files\)"),
        (_resize_mask, r"photo2\.png: the label is 61x50 pixels, but .*photo2\.jpg is 60x50"),
        (_rename_masks, r"masks: holds no mask of an image; expected a/photo0\.png or a/photo0_mask\.png for .*\.jpg"),
        (_colour_mask, r"photo2\.png: a label must be an 8-bit palette or grey PNG"),
        (_empty_masks, r"masks: no object in any mask, only \[0\]; objects are 1 to 254, 255 is ignored"),
    ],
)
def test_bad_files_are_named_before_anything_is_written(
    project: Path, images: Path, spoil: Callable[[Path, Path], None], message: str
) -> None:
    masks = images.parent / "masks"
    spoil(images, masks)
    before = written(project)
    with pytest.raises(UserError, match=message) as error:
        prepare(images, "--masks", masks)
    assert "\n" not in str(error.value)
    assert written(project) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--masks", "{images}/../nowhere"], "nowhere: folder not found"),
        (["--masks", "{images}"], "holds images and masks"),
        (["--root", "{images}/.."], "overlaps with .*JPEGImages, which this command fills; choose another --root"),
        (["--name", "pascal"], "--name pascal: belongs to `python -m prepare pascal`"),
        (["--name", "../mine"], "use letters, digits, - and _ only"),
        (["--val-share", "1"], "--val-share: '1' is not a number between 0 and 1"),
        (["--masks", "{images}/../masks", "--classes", "5"], "the masks go up to class 6, but --classes is 5"),
    ],
)
def test_bad_options(project: Path, images: Path, options: list[str], message: str) -> None:
    before = written(project)
    target = images.parent / "JPEGImages"
    if "--root" in options:
        images.rename(target)
        images = target
    with pytest.raises(UserError, match=message):
        prepare(images, *(option.format(images=images) for option in options))
    assert written(project) == before


def test_folders_without_images(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone: folder not found"):
        prepare(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no images in this folder; expected files that end in \.jpg"):
        prepare(tmp_path / "empty")


def test_another_datasets_files_are_not_overwritten(project: Path, images: Path) -> None:
    taken = project / "data" / "mine" / "JPEGImages" / "photo1.jpg"
    taken.parent.mkdir(parents=True)
    taken.write_text("something else")
    with pytest.raises(UserError, match=r"photo1\.jpg: holds something other than .*choose another --root"):
        prepare(images)
    assert taken.read_text() == "something else"


def test_a_dataset_stays_what_it_was_made_of(project: Path, images: Path, tmp_path: Path) -> None:
    """Else its lists, labels and configuration would be of several things."""
    prepare(images, "--classes", 6)
    prepare(images, "--masks", images.parent / "masks")  # masks may come later
    before = written(project)
    with pytest.raises(UserError, match=r"source\.json: .* was made from something else \(masks is True there"):
        prepare(images)
    shutil.copytree(images, tmp_path / "others")
    with pytest.raises(UserError, match=r"images is .*/images there, .*/others expected\); choose another --name"):
        prepare(tmp_path / "others", "--masks", images.parent / "masks")
    assert written(project) == before
    for content, message in (("[]", "list is there, an object"), ("{}", "was made from something else")):
        (project / "data" / "mine" / "source.json").write_text(content)
        with pytest.raises(UserError, match=rf"source\.json: .*{message}"):
            prepare(images, "--masks", images.parent / "masks")


def test_masks_are_not_looked_for_around_the_images(project: Path, images: Path, tmp_path: Path) -> None:
    shutil.move(images, tmp_path / "set" / "images")
    with pytest.raises(UserError, match=r"--masks .*set: contains the folder of images .*images; name the folder"):
        prepare(tmp_path / "set" / "images", "--masks", tmp_path / "set")


def test_a_mask_is_of_one_image(project: Path, images: Path) -> None:
    shutil.copy(images / "a" / "photo2.jpg", images / "a" / "photo2.jpeg")
    before = written(project)
    with pytest.raises(UserError, match=r"photo2\.jpg: would have the same mask as .*photo2\.jpeg; rename one"):
        prepare(images, "--masks", images.parent / "masks")
    assert written(project) == before


def test_a_configuration_about_other_data_is_not_used(project: Path, images: Path) -> None:
    prepare(images)
    with pytest.raises(UserError, match=r"config/mine: DATA\.data_root is .* there and .* here; delete the folder"):
        prepare(images, "--root", images.parent / "elsewhere" / "mine")


def test_two_commands_in_one_place(project: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prepare.folder.only_process_in", taken)
    with pytest.raises(UserError, match=r"data/mine: taken$"):
        prepare(images)
    assert not (project / "data").exists() and not (project / "lists").exists()


def test_names_of_another_encoding_and_with_blanks(project: Path, images: Path) -> None:
    masks = images.parent / "masks"
    for folder, suffix in ((images, "jpg"), (masks, "png")):
        os.rename(folder / "b" / f"photo1.{suffix}", folder / "b" / os.fsdecode(b"caf\xe9 1." + suffix.encode()))
    prepare(images, "--masks", masks)
    root = project / "data" / "mine"
    read = [read_list(project / "lists" / "mine" / f"{part}.txt", root, need_labels=True) for part in ("train", "val")]
    (path,) = [part.image_path(row) for part in read for row in range(len(part)) if "caf" in part.images[row]]
    assert path.name == "caf_1.jpg"
    assert os.fsencode(path.resolve().name) == b"caf\xe9 1.jpg"
