"""Masks that are made: once, again when their file changes, never mixed with others, whole after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from prepare.folder.label_pngs import check_made_masks, make_masks
from util.errors import UserError
from util.images import read_label, write_label

SETTINGS = {"kind": "numbers", "classes": ["a", "b"]}


class NumberMask(NamedTuple):
    """A mask all of the number that its file holds."""

    path: Path

    def size(self) -> tuple[int, int]:
        return 4, 5

    def read(self) -> np.ndarray:
        text = self.path.read_text()
        if text == "interrupt":
            raise KeyboardInterrupt
        return np.full((4, 5), int(text), dtype=np.uint8)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text(str(number))
    return tmp_path


def masks(sources: Path) -> dict[str, NumberMask]:
    return {f"m{number}.png": NumberMask(sources / f"{number}.txt") for number in range(6)}


def made(sources: Path) -> dict[str, int]:
    return {path.name: int(read_label(path)[0, 0]) for path in sorted((sources / "made").iterdir())}


def make(sources: Path) -> None:
    check_made_masks(sources / "made", SETTINGS)
    make_masks(sources / "made", masks(sources), SETTINGS, workers=1)


def test_a_second_run_makes_what_changed_or_is_gone(sources: Path) -> None:
    make(sources)
    assert made(sources) == {f"m{number}.png": number for number in range(6)}
    stamps = {path.name: path.stat().st_mtime_ns for path in (sources / "made").iterdir()}
    (sources / "2.txt").write_text("200")
    (sources / "made" / "m4.png").unlink()
    (sources / "made" / "m5.png").write_bytes(b"")  # as after a power cut
    make(sources)
    assert made(sources) == {**{f"m{number}.png": number for number in range(6)}, "m2.png": 200}
    changed = [path.name for path in (sources / "made").iterdir() if path.stat().st_mtime_ns != stamps[path.name]]
    assert sorted(changed) == ["m2.png", "m4.png", "m5.png"]


def test_an_interrupted_run_leaves_no_mask_of_before(sources: Path) -> None:
    make(sources)
    for number in (1, 3, 4):
        (sources / f"{number}.txt").write_text(str(100 + number))
    (sources / "3.txt").write_text("interrupt")
    with pytest.raises(KeyboardInterrupt):
        make(sources)
    assert made(sources) == {"m0.png": 0, "m1.png": 101, "m2.png": 2, "m5.png": 5}
    left_over = sources / "made" / ".m3.png.4711"
    left_over.write_bytes(b"half")
    (sources / "3.txt").write_text("103")
    make(sources)
    assert made(sources) == {"m0.png": 0, "m1.png": 101, "m2.png": 2, "m3.png": 103, "m4.png": 104, "m5.png": 5}


def test_masks_of_other_settings_are_not_mixed(sources: Path) -> None:
    make(sources)
    folder = sources / "made"
    before = made(sources)
    with pytest.raises(UserError, match=r"made\.json: made with other settings \(classes is \['a', 'b'\] there, .*'c'"):
        check_made_masks(folder, {**SETTINGS, "classes": ["a", "c"]})
    with pytest.raises(UserError, match=r"made\.json: its masks were made from masks of another kind; choose"):
        check_made_masks(folder, None)
    for content in ("[]", '{"settings": {}}'):
        (sources / "made.json").write_text(content)
        with pytest.raises(UserError, match=r"made\.json: not the file that this command wrote"):
            check_made_masks(folder, SETTINGS)
    (sources / "made.json").unlink()
    with pytest.raises(
        UserError,
        match=r"made: holds masks that this command did not make \(no .*made\.json\); delete it or choose",
    ):
        check_made_masks(folder, SETTINGS)
    assert made(sources) == before


def test_a_deleted_folder_may_be_made_otherwise(sources: Path) -> None:
    make(sources)
    for path in (sources / "made").iterdir():
        path.unlink()
    other = {**SETTINGS, "classes": ["a", "c"]}
    check_made_masks(sources / "made", other)
    make_masks(sources / "made", masks(sources), other, workers=1)
    check_made_masks(sources / "made", other)
    assert len(made(sources)) == 6


def test_label_pngs_need_no_manifest(sources: Path) -> None:
    write_label(sources / "labels" / "x.png", np.zeros((4, 5), dtype=np.uint8))
    check_made_masks(sources / "labels", None)
