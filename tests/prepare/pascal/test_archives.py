"""Folders and tar files give the same files; damaged ones are reported."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from prepare.pascal.archives import DownloadLayout, open_download
from util.errors import UserError

LAYOUT = DownloadLayout(
    title="the set",
    expected="the folder set or set.tar",
    bases=(".", "set", "outer/set"),
    folders={".": ".txt", "images": ".jpg", "deep/lists": ".txt"},
)
FILES = {"images/1.jpg": b"one", "images/2.jpg": b"two" * 3000, "deep/lists/all.txt": b"1 2", "notes.txt": b"notes"}
# None of these is part of the layout: another suffix, another folder, a folder further down.
OTHERS = {"images/1.png": b"x", "other/1.jpg": b"x", "images/more/3.jpg": b"x"}


def everything(name: str) -> bool:
    return True


def read_all(path: Path) -> dict[str, bytes]:
    return {name: entry.read() for name, entry in open_download(path, LAYOUT, everything).entries.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``outer``, which holds the folder ``set``."""
    for name, data in (FILES | OTHERS).items():
        path = tmp_path / "outer" / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "outer"


def pack(folder: Path, mode: str, top: str) -> Path:
    path = folder.parent / "set.tar"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder / "set", top)
    return path


def test_a_folder_may_be_named_at_any_level(folder: Path) -> None:
    assert read_all(folder.parent) == read_all(folder) == read_all(folder / "set") == FILES


def test_one_more_folder_around_it(folder: Path) -> None:
    around = folder.parent / "unpacked" / "downloads"
    around.mkdir(parents=True)
    folder.rename(around / "outer")
    (around.parent / "notes.txt").write_text("of something else")
    assert read_all(around.parent) == FILES


def test_what_is_no_file_is_not_taken(folder: Path) -> None:
    (folder / "set" / "images" / "3.jpg").mkdir()
    (folder / "set" / "images" / "4.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "set" / "images" / "5.jpg")
    assert read_all(folder) == FILES


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("top", ["outer/set", "./set", ".", "downloads/outer/set", "downloads"])
def test_a_tar_file_gives_the_same(folder: Path, mode: str, top: str) -> None:
    assert read_all(pack(folder, mode, top)) == FILES


def test_places_name_archive_and_member(folder: Path) -> None:
    path = pack(folder, "w", "set")
    assert open_download(path, LAYOUT, everything).entries["images/1.jpg"].place == f"{path}, set/images/1.jpg"


def test_only_what_is_wanted_is_kept_of_a_compressed_file(folder: Path) -> None:
    path = pack(folder, "w:gz", "set")
    download = open_download(path, LAYOUT, is_needed=lambda name: name.endswith("1.jpg"))
    assert list(download.entries) == ["images/1.jpg"]


def test_names_that_lead_elsewhere_and_links_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as archive:
        for name in (
            "../images/1.jpg",
            "/images/1.jpg",
            "set/../images/1.jpg",
            "images/../../1.jpg",
            "images/good.jpg",
        ):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"bad"))
        link = tarfile.TarInfo("images/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert list(read_all(path)) == ["images/good.jpg"]


def test_things_that_are_not_the_download(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone: not found; expected the folder set or set\.tar"):
        read_all(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: nothing of the set in it; expected the folder set or set\.tar"):
        read_all(tmp_path / "empty")
    for data in (b"", gzip.compress(b"no tar file"), b"\x1f\x8bbad"):
        (tmp_path / "file").write_bytes(data)
        with pytest.raises(
            UserError, match=r"file: (not a tar file, or damaged \(.*download it again|nothing of the set)"
        ):
            read_all(tmp_path / "file")


def test_other_archives_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("images/1.jpg", b"one")
    with pytest.raises(UserError, match=r"set\.zip: a zip file; unpack it and give its folder, or give the folder"):
        read_all(tmp_path / "set.zip")
    for mode, kind in (("w:xz", "xz"), ("w:bz2", "bzip2")):
        with tarfile.open(tmp_path / "set.tar", mode) as archive:  # type: ignore[call-overload]
            archive.addfile(tarfile.TarInfo("images/1.jpg"))
        with pytest.raises(UserError, match=rf"set\.tar: a {kind} file; unpack it"):
            read_all(tmp_path / "set.tar")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_file_of_impossible_size_is_named(tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "set.tar", mode) as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo("images/1.jpg")
        member.size = 1 << 40
        archive.addfile(member)
    with pytest.raises(UserError, match=r"set\.tar, images/1\.jpg: 1,099,511,627,776 bytes; expected the"):
        read_all(tmp_path / "set.tar")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_half_a_tar_file_is_damaged(folder: Path, mode: str) -> None:
    (folder / "set" / "zzz").write_bytes(bytes(range(256)) * 100)
    path = pack(folder, mode, "set")
    data = path.read_bytes()
    path.write_bytes(data[: -12000 if mode == "w" else -9])
    with pytest.raises(UserError, match=r"set\.tar: not a tar file, or damaged \(.*\); expected .*, download it again"):
        read_all(path)


def test_a_wrong_checksum_is_damage(folder: Path) -> None:
    path = pack(folder, "w:gz", "set")
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"set\.tar: not a tar file, or damaged \(CRC check failed"):
        read_all(path)
