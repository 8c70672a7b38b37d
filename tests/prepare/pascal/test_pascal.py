"""PASCAL-5i from downloads of VOC and SBD: every way they come, every way they are damaged, and interruptions."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from episodes.lists import read_list
from episodes.protocols import PROTOCOLS, Benchmark, Protocol
from prepare import pascal
from prepare.__main__ import main
from prepare.pascal.download import PublicFile
from tests.prepare.pascal.http_server import serve
from tests.prepare.pascal.voc_downloads import (
    NOT_IN_VOC,
    SBD_ONLY,
    SBD_TRAIN,
    VOC_TRAIN,
    VOC_VAL,
    Downloads,
    draw_downloads,
    write_ids,
    write_sbd_label,
)
from tests.prepare.taken_folder import taken
from util.errors import UserError, run_command
from util.files import digest_lines
from util.images import read_image, read_label, write_image

TRAIN = sorted({*VOC_TRAIN, *SBD_ONLY})


@pytest.fixture
def downloads(tmp_path: Path) -> Downloads:
    return draw_downloads(tmp_path / "in")


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pascal, "available_cores", lambda: 1)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the drawn ids be the benchmark's."""
    benchmarks = {
        split: Benchmark(len(ids), digest_lines(sorted(ids))) for split, ids in (("train", TRAIN), ("val", VOC_VAL))
    }
    monkeypatch.setitem(PROTOCOLS, "pascal", Protocol(benchmarks=benchmarks))


def arguments(folder: Path, *options: object) -> list[str]:
    """The command with its results in ``folder``."""
    places = ["--root", folder / "data", "--lists", folder / "lists"]
    return ["pascal", *(str(argument) for argument in (*places, *options))]


def prepare(folder: Path, downloads: Downloads, *options: object) -> Path:
    main(arguments(folder, "--voc", downloads.voc, "--sbd", downloads.sbd, *options))
    return folder / "data" / "pascal"


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that counts: files under hidden names are leftovers of a killed run."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def logged(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the command logged since the last call, without the time of day."""
    return re.findall(r"^\d\d:\d\d:\d\d (.*)$", capsys.readouterr().err, flags=re.MULTILINE)


def check_dataset(folder: Path, labels: dict[str, np.ndarray]) -> None:
    root = folder / "data" / "pascal"
    for split, ids in (("train", TRAIN), ("val", VOC_VAL)):
        images = read_list(folder / "lists" / "pascal" / f"{split}.txt", root, need_labels=True)
        assert images.images == tuple(f"JPEGImages/{image_id}.jpg" for image_id in ids)
        for row, image_id in enumerate(ids):
            path = images.label_path(row)
            assert path == root / "SegmentationClassAug" / f"{image_id}.png"
            assert np.array_equal(read_label(path), labels[image_id])
            assert read_image(images.image_path(row)).shape[:2] == labels[image_id].shape
            with Image.open(path) as label:
                assert label.mode == "P"
    assert len(list((root / "SegmentationClassAug").iterdir())) == len(labels)


def test_labels_are_vocs_where_it_has_one_else_sbds(tmp_path: Path, downloads: Downloads) -> None:
    root = prepare(tmp_path, downloads)
    check_dataset(tmp_path, downloads.labels)
    image = root / "JPEGImages" / f"{VOC_VAL[0]}.jpg"
    assert image.is_symlink() and image.resolve() == downloads.voc / "JPEGImages" / image.name
    image = root / "JPEGImages" / f"{NOT_IN_VOC}.jpg"
    assert image.resolve() == downloads.sbd / "dataset" / "img" / image.name
    lists = tmp_path / "lists" / "pascal"
    assert [len((lists / f"train_{percent}.txt").read_text().splitlines()) for percent in (5, 10, 20)] == [1, 2, 4]


def test_tar_files_give_the_same_as_folders(tmp_path: Path, downloads: Downloads) -> None:
    prepare(tmp_path / "a", downloads)
    root = prepare(tmp_path / "b", downloads.pack())
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert not any(path.is_symlink() for path in root.rglob("*"))


def test_folders_may_be_named_one_level_higher_or_lower(tmp_path: Path, downloads: Downloads) -> None:
    voc = downloads.voc.parent / "VOCdevkit" / "VOC2012"
    shutil.move(downloads.voc, voc)
    prepare(tmp_path / "a", downloads._replace(voc=voc))
    prepare(tmp_path / "b", Downloads(voc.parent, downloads.sbd / "dataset", {}))
    prepare(tmp_path / "c", Downloads(voc.parent.parent, downloads.sbd.parent, {}))
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")


def test_several_processes_change_nothing(
    tmp_path: Path, downloads: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path / "a", downloads)
    monkeypatch.setattr(pascal, "available_cores", lambda: 2)
    prepare(tmp_path / "b", downloads.pack())
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("place", ["dataset/train_noval.txt", "train_noval.txt", "../train_noval.txt"])
@pytest.mark.parametrize("packed", [False, True])
def test_sbds_filtered_list_is_used_where_it_is(tmp_path: Path, downloads: Downloads, place: str, packed: bool) -> None:
    (downloads.sbd / "dataset" / "train.txt").unlink()
    write_ids(downloads.sbd / place, sorted({*SBD_TRAIN} - {*VOC_VAL}))
    if packed and place == "train_noval.txt":
        shutil.move(downloads.sbd / place, downloads.sbd.parent)
    prepare(tmp_path, downloads.pack() if packed else downloads)
    check_dataset(tmp_path, downloads.labels)


@pytest.mark.usefixtures("exact")
def test_exact_lists_are_reported_and_need_no_downloads_again(
    tmp_path: Path, downloads: Downloads, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = downloads.pack()
    prepare(tmp_path, packed)
    lists = tmp_path / "lists" / "pascal"
    assert logged(capsys)[-2:] == [
        f"{lists / 'train.txt'}: 21 images, exactly the benchmark's",
        f"{lists / 'val.txt'}: 5 images, exactly the benchmark's",
    ]
    packed.voc.unlink()
    packed.sbd.unlink()
    before = contents(tmp_path / "lists")
    prepare(tmp_path, packed)
    assert (
        logged(capsys)[-1]
        == f"{tmp_path / 'data' / 'pascal'}: already complete, and the lists are exactly the benchmark's"
    )
    assert contents(tmp_path / "lists") == before


def test_other_lists_are_reported_with_the_file_to_blame(
    tmp_path: Path, downloads: Downloads, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tmp_path, downloads)
    lists = tmp_path / "lists" / "pascal"
    *_, train, val, doubt, _, _ = logged(capsys)
    assert [train, val] == [
        f"{lists / 'train.txt'}: 21 images, 5,932 fewer than the benchmark's 5,953",
        f"{lists / 'val.txt'}: 5 images, 1,444 fewer than the benchmark's 1,449",
    ]
    assert doubt == "ImageSets/Segmentation/train.txt has 6 ids, the official one 1,464"


def test_a_second_run_makes_nothing(tmp_path: Path, downloads: Downloads, capsys: pytest.CaptureFixture[str]) -> None:
    root = prepare(tmp_path, downloads)
    before = contents(tmp_path)
    times = {path: path.lstat().st_mtime_ns for path in root.rglob("[!.]*.*")}
    prepare(tmp_path, downloads)
    assert f"{root}: already complete" in logged(capsys)
    assert contents(tmp_path) == before
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("[!.]*.*")} == times


def test_only_what_is_missing_or_cut_is_made_again(
    tmp_path: Path, downloads: Downloads, capsys: pytest.CaptureFixture[str]
) -> None:
    root = prepare(tmp_path, downloads)
    before = contents(tmp_path)
    (root / "JPEGImages" / f"{VOC_TRAIN[0]}.jpg").unlink()
    label = root / "SegmentationClassAug" / f"{SBD_ONLY[0]}.png"
    label.write_bytes(label.read_bytes()[:-20])
    prepare(tmp_path, downloads)
    assert f"{root}: 2 images made, complete" in logged(capsys)
    assert contents(tmp_path) == before


def test_a_dataset_that_shares_vocs_own_images_leaves_them_alone(tmp_path: Path, downloads: Downloads) -> None:
    """The dataset's folder of images may be a link to VOC's."""
    images = contents(downloads.voc / "JPEGImages")
    root = tmp_path / "data" / "pascal"
    root.mkdir(parents=True)
    (root / "JPEGImages").symlink_to(downloads.voc / "JPEGImages")
    prepare(tmp_path, downloads)
    assert contents(downloads.voc / "JPEGImages").items() >= images.items()
    check_dataset(tmp_path, downloads.labels)


def _remove_label_of_voc(downloads: Downloads) -> None:
    (downloads.voc / "SegmentationClass" / f"{VOC_TRAIN[1]}.png").unlink()


def _remove_labels_of_sbd(downloads: Downloads) -> None:
    for image_id in SBD_ONLY[:5]:
        (downloads.sbd / "dataset" / "cls" / f"{image_id}.mat").unlink()


def _remove_image(downloads: Downloads) -> None:
    (downloads.voc / "JPEGImages" / f"{SBD_ONLY[0]}.jpg").unlink()


def _remove_list(downloads: Downloads) -> None:
    (downloads.voc / "ImageSets" / "Segmentation" / "val.txt").unlink()


def _spoil_list(downloads: Downloads) -> None:
    write_ids(downloads.sbd / "dataset" / "train.txt", ["2009_000001", "car"])


def _no_mat_file(downloads: Downloads) -> None:
    (downloads.sbd / "dataset" / "cls" / f"{SBD_ONLY[0]}.mat").write_text("<html>not found</html>")


def _half_a_mat_file(downloads: Downloads) -> None:
    path = downloads.sbd / "dataset" / "cls" / f"{SBD_ONLY[0]}.mat"
    path.write_bytes(path.read_bytes()[:-100])


def _another_size(downloads: Downloads) -> None:
    write_sbd_label(downloads.sbd / "dataset" / "cls" / f"{SBD_ONLY[0]}.mat", np.ones((9, 12), dtype=np.uint8))


def _half_a_label(downloads: Downloads) -> None:
    path = downloads.voc / "SegmentationClass" / f"{VOC_VAL[0]}.png"
    path.write_bytes(path.read_bytes()[:-100])


def _half_an_image(downloads: Downloads) -> None:
    path = downloads.voc / "JPEGImages" / f"{VOC_VAL[0]}.jpg"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            _remove_label_of_voc,
            rf"(VOC2012|2012\.tar): lacks 1 of the files .* \(SegmentationClass/{VOC_TRAIN[1]}\.png\)",
        ),
        (_remove_labels_of_sbd, rf"(RELEASE|\.tgz): lacks 5 of .* \(cls/{SBD_ONLY[0]}\.mat, .* and 2 more\); unpack"),
        (_remove_image, rf"(VOC2012|2012\.tar): lacks 1 of the files .* \(JPEGImages/{SBD_ONLY[0]}\.jpg\)"),
        (_remove_list, r"(VOC2012|2012\.tar): no ImageSets/Segmentation/val\.txt in it"),
        (_spoil_list, r"dataset/train\.txt, line 2: expected an image id like 2007_000032, found 'car'"),
        (_no_mat_file, rf"dataset/cls/{SBD_ONLY[0]}\.mat: not an SBD label"),
        (_half_a_mat_file, rf"dataset/cls/{SBD_ONLY[0]}\.mat: not an SBD label"),
        (_another_size, rf"{SBD_ONLY[0]}\.mat: the label is 12x9 pixels, but .*{SBD_ONLY[0]}\.jpg is \d+x\d+; "),
        (_half_a_label, rf"SegmentationClass/{VOC_VAL[0]}\.png: not a readable label"),
        (_half_an_image, rf"JPEGImages/{VOC_VAL[0]}\.jpg: truncated JPEG"),
    ],
)
def test_bad_downloads_are_named_and_mended_ones_continue(
    tmp_path: Path, downloads: Downloads, spoil: Callable[[Downloads], None], message: str, packed: bool
) -> None:
    good = contents(downloads.voc.parent)
    spoil(downloads)
    with pytest.raises(UserError, match=message) as error:
        prepare(tmp_path, downloads.pack() if packed else downloads)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "lists").exists()
    for name, data in good.items():
        (downloads.voc.parent / name).write_bytes(data)
    prepare(tmp_path, downloads.pack() if packed else downloads)
    check_dataset(tmp_path, downloads.labels)


def test_a_cut_list_of_voc_brings_no_label_of_sbd(tmp_path: Path, downloads: Downloads) -> None:
    write_ids(downloads.voc / "ImageSets" / "Segmentation" / "train.txt", VOC_TRAIN[4:])
    root = prepare(tmp_path, downloads)
    for image_id in VOC_TRAIN[:3]:
        label = read_label(root / "SegmentationClassAug" / f"{image_id}.png")
        assert np.array_equal(label, downloads.labels[image_id])


def test_missing_options_are_one_line(tmp_path: Path, downloads: Downloads) -> None:
    with pytest.raises(
        UserError, match=r"--sbd is missing: give the folder benchmark_RELEASE or benchmark\.tgz, or let"
    ):
        main(arguments(tmp_path, "--voc", downloads.voc))
    with pytest.raises(UserError, match=r"--voc is missing: give the folder VOC2012 or VOCtrainval_11-May-2012\.tar"):
        main(arguments(tmp_path, "--sbd", downloads.sbd))
    with pytest.raises(UserError, match="--download fetches VOC and SBD: leave --voc and --sbd out"):
        main(arguments(tmp_path, "--sbd", downloads.sbd, "--download"))


def test_a_killed_run_continues_to_the_same_bytes(
    tmp_path: Path, downloads: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of the eighth label, whose first half is on the disk."""
    prepare(tmp_path / "whole", downloads)
    save = Image.Image.save
    saved: list[Path] = []

    def stall(image: Image.Image, path: Path, **options: Any) -> None:
        save(image, path, **options)
        saved.append(path)
        if len(saved) == 8:
            path.write_bytes(path.read_bytes()[:40])
            (tmp_path / "stalled").touch()
            time.sleep(60)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", stall)
        process = multiprocessing.get_context("fork").Process(target=prepare, args=(tmp_path / "killed", downloads))
        process.start()
        while not (tmp_path / "stalled").exists():
            time.sleep(0.01)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len([name for name in contents(tmp_path / "killed") if name.endswith(".png")]) == 7
    prepare(tmp_path / "killed", downloads)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_full_disk_is_one_line_and_the_command_continues(
    tmp_path: Path, downloads: Downloads, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments(tmp_path, "--voc", downloads.voc, "--sbd", downloads.sbd)
    save = Image.Image.save
    saved: list[Path] = []

    def run_full(image: Image.Image, path: Path, **options: Any) -> None:
        save(image, path, **options)
        saved.append(path)
        if len(saved) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(Image.Image, "save", run_full)
        run_command(main, command)
    assert end.value.code == 2
    label = tmp_path / "data" / "pascal" / "SegmentationClassAug" / f"{VOC_TRAIN[2]}.png"
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {label}: No space left on device; free some space and run the same command again"
    )
    assert len(list(label.parent.iterdir())) == 2
    run_command(main, command)
    check_dataset(tmp_path, downloads.labels)


def test_files_that_grow_no_further_leave_nothing(
    tmp_path: Path, downloads: Downloads, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel itself refuses every write beyond a kilobyte."""
    packed = downloads.pack()
    command = arguments(tmp_path, "--voc", packed.voc, "--sbd", packed.sbd)
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(SystemExit) as end:
            run_command(main, command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert end.value.code == 2
    assert f"error: {tmp_path / 'data' / 'pascal' / 'JPEGImages'}" in capsys.readouterr().err.splitlines()[-1]
    assert contents(tmp_path / "data") == {}
    run_command(main, command)
    check_dataset(tmp_path, downloads.labels)


def test_downloads_are_fetched_checked_and_used(
    tmp_path: Path, downloads: Downloads, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = downloads.pack()
    files = {path.name: path.read_bytes() for path in (packed.voc, packed.sbd)}
    with serve(files) as server:
        for attribute, (name, data) in zip(("_VOC_FILE", "_SBD_FILE"), files.items(), strict=True):
            file = PublicFile(server.address(name), hashlib.md5(data).hexdigest())
            monkeypatch.setattr(pascal, attribute, file)
        monkeypatch.setattr(pascal, "_TRAIN_NOVAL_FILE", PublicFile(server.address("train_noval.txt"), "0" * 32))
        server.cut = len(files[packed.sbd.name]) // 2
        with pytest.raises(UserError, match=r"VOCtrainval_11-May-2012\.tar: (the connection )?broke off"):
            main(arguments(tmp_path, "--download"))
        server.cut = None
        main(arguments(tmp_path, "--download"))
        note = f"{server.address('train_noval.txt')}: the server answered 404"
    check_dataset(tmp_path, downloads.labels)
    folder = tmp_path / "data" / "downloads"
    assert contents(folder) == files
    assert logged(capsys)[0] == f"{note} (Not Found); not needed, SBD's train.txt is filtered instead"


def test_a_subset_is_shrunk_from_the_same_labels(
    tmp_path: Path, downloads: Downloads, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = tmp_path / "small"
    ids = [VOC_TRAIN[0], VOC_VAL[0], SBD_ONLY[0]]
    for name, members in (("train", ids[:1]), ("val", ids[1:2]), ("train_all", [ids[0], ids[2]])):
        write_ids(lists / f"{name}.txt", [f"JPEGImages/{i}.jpg SegmentationClassAug/{i}.png" for i in members])
    large = np.full((375, 500), 5, dtype=np.uint8)
    write_image(downloads.voc / "JPEGImages" / f"{SBD_ONLY[0]}.jpg", np.zeros((375, 500, 3), dtype=np.uint8))
    write_sbd_label(downloads.sbd / "dataset" / "cls" / f"{SBD_ONLY[0]}.mat", large)
    for _ in range(2):
        prepare(tmp_path, downloads, "--subset", lists)
    root = tmp_path / "data" / "small"
    assert logged(capsys) == [f"{root}: 3 images made, complete", f"{root}: already complete, 3 images"]
    for name in ("train", "val", "train_all"):
        read_list(lists / f"{name}.txt", root, need_labels=True)
    assert read_image(root / "JPEGImages" / f"{SBD_ONLY[0]}.jpg").shape == (281, 375, 3)
    assert np.array_equal(read_label(root / "SegmentationClassAug" / f"{SBD_ONLY[0]}.png"), large[:281, :375])
    for image_id in ids[:2]:
        label = read_label(root / "SegmentationClassAug" / f"{image_id}.png")
        assert np.array_equal(label, downloads.labels[image_id])
    assert not (tmp_path / "data" / "pascal").exists()
    assert not (tmp_path / "lists").exists()


def test_a_subset_without_lists(tmp_path: Path, downloads: Downloads) -> None:
    with pytest.raises(UserError, match=r"nowhere: no lists in this folder; expected files that end in \.txt"):
        prepare(tmp_path, downloads, "--subset", tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match=r"no lists in this folder"):
        prepare(tmp_path, downloads, "--subset", tmp_path)
    with pytest.raises(UserError, match=r"data/pascal is for the whole set; rename the folder"):
        prepare(tmp_path, downloads, "--subset", tmp_path / "lists" / "pascal")


def test_two_commands_in_one_place(tmp_path: Path, downloads: Downloads, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = tmp_path / "small"
    write_ids(lists / "train.txt", [f"JPEGImages/{VOC_VAL[0]}.jpg SegmentationClassAug/{VOC_VAL[0]}.png"])
    monkeypatch.setattr(pascal, "only_process_in", taken)
    with pytest.raises(UserError, match=r"data/pascal: taken$"):
        prepare(tmp_path, downloads)
    with pytest.raises(UserError, match=r"data/small: taken$"):
        prepare(tmp_path, downloads, "--subset", lists)
    with pytest.raises(UserError, match=r"data/downloads: taken$"):
        main(arguments(tmp_path, "--download"))
    assert not (tmp_path / "data").exists() and not (tmp_path / "lists").exists()
