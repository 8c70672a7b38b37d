"""Links of a dataset: made once, renewed when the files move, never over something else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from prepare.links import is_made, link_all
from util.errors import UserError
from util.images import write_label


def test_links_are_made_and_then_left_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "source.jpg", tmp_path / "deep" / "target.jpg"
    source.write_text("image")
    link_all([(source, target)])
    assert target.readlink() == source
    inode = target.lstat().st_ino
    link_all([(source, target), (source, source)])
    assert target.lstat().st_ino == inode and not source.is_symlink()


def test_a_link_follows_a_file_that_was_copied_elsewhere(tmp_path: Path) -> None:
    old, new, target = (tmp_path / name for name in ("old.jpg", "new.jpg", "target.jpg"))
    old.write_text("image")
    link_all([(old, target)])
    shutil.copy2(old, new)
    link_all([(new, target)])
    assert target.readlink() == new
    new.rename(old)  # the link leads nowhere now
    link_all([(old, target)])
    assert target.read_text() == "image"


def test_a_copy_is_left_and_another_file_refused_before_anything_is_written(tmp_path: Path) -> None:
    source, copy, other = (tmp_path / name for name in ("source.jpg", "copy.jpg", "other.jpg"))
    source.write_text("image")
    copy.write_text("image")
    other.write_text("else!")
    link_all([(source, copy)])
    assert not copy.is_symlink()
    with pytest.raises(UserError, match=r"other\.jpg: holds something other than .*source\.jpg; remove it or choose"):
        link_all([(source, tmp_path / "target.jpg"), (source, other)])
    assert other.read_text() == "else!" and not (tmp_path / "target.jpg").exists()


def test_files_are_whole_or_not_made(tmp_path: Path) -> None:
    image, label = tmp_path / "image.jpg", tmp_path / "label.png"
    assert not is_made(image) and not is_made(label)
    write_label(label, np.zeros((5, 6), dtype=np.uint8))
    assert is_made(label)
    data = label.read_bytes()
    for length in (0, 5, 12, len(data) // 2, len(data) - 1):
        label.write_bytes(data[:length])
        assert not is_made(label)
    image.touch()
    assert not is_made(image)
    image.write_bytes(b"x")
    assert is_made(image)
    image.unlink()
    image.symlink_to(tmp_path / "gone.jpg")
    assert not is_made(image)
