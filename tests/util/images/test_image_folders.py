"""util.images.image_folders: what is found in the folders that people have, and what is left out."""

import os
import shutil
from pathlib import Path

import pytest

from util.images import IMAGE_SUFFIXES
from util.images.image_folders import find_files, list_images
from util.logging import start_logging


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path, *, recursive: bool = True) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(folder, recursive=recursive)]


def test_files_are_sorted_and_those_of_the_system_left_out(tmp_path: Path) -> None:
    make(tmp_path, "b/2.png", "b/1.JPG", "a.jpg", "c.jfif", "notes.txt")
    make(tmp_path, "._a.jpg", ".previews/3.jpg", "b/._1.JPG", "@eaDir/a.jpg", "__MACOSX/a.jpg", "#recycle/b.png")
    make(tmp_path, "Thumbs.db", "desktop.ini")
    (tmp_path / "folder.png").mkdir()
    assert found(tmp_path) == ["a.jpg", "b/1.JPG", "b/2.png", "c.jfif"]
    assert found(tmp_path, recursive=False) == ["a.jpg", "c.jfif"]
    assert find_files(tmp_path, {".txt", ".png"}) == [tmp_path / name for name in ("b/2.png", "notes.txt")]
    assert find_files(tmp_path / ".previews", IMAGE_SUFFIXES) == [tmp_path / ".previews" / "3.jpg"]


def test_links_to_folders_are_followed_and_no_folder_searched_twice(tmp_path: Path) -> None:
    make(tmp_path, "in/z/1.jpg", "in/z/deep/2.jpg", "elsewhere/3.jpg")
    for name, target in {"a": "z", "loop": ".", "z/deep/up": "../..", "more": "../elsewhere", "same": "more"}.items():
        (tmp_path / "in" / name).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to("../in")
    assert found(tmp_path / "in") == ["more/3.jpg", "z/1.jpg", "z/deep/2.jpg"]
    assert found(tmp_path / "in", recursive=False) == []


def test_what_is_left_out_is_counted_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_logging()
    make(tmp_path, "1.jpg", "2.HEIC", "b/3.heic", "4.cr2", "5", "1.json", "1.xml", "Thumbs.db", "._6.heic")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert found(tmp_path) == ["1.jpg"]
    (line,) = capsys.readouterr().err.splitlines()
    kinds = "1 .cr2, 2 .heic, 1 broken link, 1 pipe or device, 1 without suffix"
    assert line.endswith(f"{tmp_path}: 6 files left out ({kinds})")
    shutil.rmtree(tmp_path / "b")
    for name in ("2.HEIC", "4.cr2", "5", "gone.jpg", "pipe.jpg"):
        (tmp_path / name).unlink()
    assert found(tmp_path) == ["1.jpg"] and not capsys.readouterr().err


def test_a_name_need_not_be_utf_8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    path.touch()
    assert list_images(tmp_path) == [path]
