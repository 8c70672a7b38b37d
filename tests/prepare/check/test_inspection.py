"""Images and labels: every fault in its own line, and none hides another."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.prepare.small_dataset import CLASSES, COUNTS, Outcome, add_line, cut, names, set_value
from util.images import read_image, read_label, write_image, write_label


def spoil_checksum(path: Path) -> None:
    """As where a bit has changed and the pixels can still be decoded: ``read_label`` notices nothing."""
    data = bytearray(path.read_bytes())
    data[data.index(b"IEND") - 5] ^= 1
    path.write_bytes(data)
    read_label(path)


def as_damaged_png(data: Path) -> None:
    """An image may be a PNG, and damaged."""
    pixels = np.random.default_rng(0).integers(0, 255, (60, 44, 3), dtype=np.uint8)
    _, encoded = cv2.imencode(".png", pixels)
    content = bytearray(encoded.tobytes())
    content[len(content) // 2] ^= 1
    (data / names("train", 0)[0]).write_bytes(content)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing image": (
        lambda data: (data / names("train", 5)[0]).unlink(),
        r"train\.txt, line 6: image .*train05\.jpg not found; correct the list or DATA\.data_root",
    ),
    "missing label": (
        lambda data: (data / names("val", 5)[1]).unlink(),
        r"val\.txt, line 6: label .*val05\.png not found; correct the list or DATA\.data_root",
    ),
    "truncated JPEG": (lambda data: cut(data / names("train", 0)[0]), r"train00\.jpg: truncated JPEG .*copy the file"),
    "empty image": (lambda data: (data / names("train", 0)[0]).write_bytes(b""), r"train00\.jpg: not a readable image"),
    "damaged PNG image": (as_damaged_png, r"train00\.jpg: not a readable image; replace it"),
    "truncated PNG": (
        lambda data: cut(data / names("val", 0)[1]),
        r"val00\.png: not a readable label .*; copy or make it",
    ),
    "damaged PNG": (
        lambda data: spoil_checksum(data / names("val", 0)[1]),
        r"val00\.png: damaged label .*; copy it again",
    ),
    "colour label": (
        lambda data: write_image(data / names("val", 0)[1], np.zeros((60, 44, 3), dtype=np.uint8)),
        r"val00\.png: a label must be an 8-bit palette or grey PNG, this one is uint8 \(60, 44, 3\)",
    ),
    "another size": (
        lambda data: write_label(data / names("val", 0)[1], np.ones((44, 60), dtype=np.uint8)),
        r"val00\.png: the label is 60x44 pixels, but .*val00\.jpg is 44x60; make them equal",
    ),
    "value out of range": (
        lambda data: set_value(data, CLASSES + 1),
        r"val01\.png: 20 pixels of value 5; expected 0 to 4 and 255; correct the label or DATA\.classes",
    ),
    "all void": (
        lambda data: write_label(data / names("val", 0)[1], np.full((60, 44), 255, dtype=np.uint8)),
        r"val00\.png: all of it is 255 \(ignored\); label it or take the image off the list",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_line(data: Path, check: Callable[..., Outcome], fault: str) -> None:
    spoil, message = FAULTS[fault]
    spoil(data)
    check().assert_one_problem(message, data)


def test_no_problem_hides_another(data: Path, check: Callable[..., Outcome], tmp_path: Path) -> None:
    """Faults of several kinds in both lists; image and label of one example are both missing."""
    faults = ("missing image", "missing label", "truncated JPEG", "another size", "value out of range")
    for fault in faults:
        FAULTS[fault][0](data)
    add_line(data, "a b c")
    (data / names("train", 5)[1]).unlink()
    outcome = check("--report", tmp_path / "report.json")
    for message in (*(FAULTS[fault][1] for fault in faults), r"label .*train05\.png not found", "found 3 fields"):
        assert len([error for error in outcome.errors if re.search(message, error)]) == 1, message
    assert len(outcome.errors) == 7 and outcome.lines[-1] == "7 problems"
    report = json.loads((tmp_path / "report.json").read_text())
    for lines, key in ((outcome.errors, "errors"), (outcome.warnings, "warnings")):
        assert sorted(lines) == sorted(entry["message"] for entry in report[key])
    # What has a problem is no episode's: classes 1 and 2 lose an image of the training list.
    assert {number: row[1] for number, row in outcome.rows().items()} == {1: 5, 2: 5, 3: 6, 4: 6}


def test_the_highest_value_and_void_are_allowed(data: Path, check: Callable[..., Outcome]) -> None:
    for value in (CLASSES, 255):
        set_value(data, value)
        assert check().code == 0


def test_all_missing_files_are_reported_and_the_list_is_kept_short(
    data: Path, check: Callable[..., Outcome], tmp_path: Path
) -> None:
    shutil.rmtree(data / "JPEGImages")
    outcome = check("--report", tmp_path / "report.json")
    missing = [error for error in outcome.errors if "image " in error and "not found" in error]
    assert len(missing) == 20 and "train19.jpg" in missing[-1]
    assert "  and 32 more missing images; --report FILE.json lists them all" in outcome.lines
    errors = json.loads((tmp_path / "report.json").read_text())["errors"]
    assert len([entry for entry in errors if entry["kind"] == "missing images"]) == sum(COUNTS.values())
    assert outcome.lines[-1] == f"{len(errors)} problems"


def test_a_file_wrong_in_both_lists_is_one_problem(data: Path, check: Callable[..., Outcome]) -> None:
    add_line(data, " ".join(names("val", 3)))
    cut(data / names("val", 3)[0])
    assert check().lines[-1] == "1 problem"


def test_a_jpeg_that_the_decoder_complains_about_is_a_warning(data: Path, check: Callable[..., Outcome]) -> None:
    """libjpeg fills the damaged part and goes on; what it prints names no file."""
    path = data / names("train", 2)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : -2] = bytes(len(content) - 2 - len(content) // 2)
    path.write_bytes(content)
    outcome = check()
    assert outcome.code == 0
    assert re.match(rf"{path}: decoded, but perhaps damaged \(.*JPEG.*\); look at it, or copy", outcome.warnings[0])


def test_a_jpeg_without_end_marker_is_a_warning(data: Path, check: Callable[..., Outcome]) -> None:
    path = data / names("train", 2)[0]
    path.write_bytes(path.read_bytes()[:-2])
    outcome = check()
    assert outcome.code == 0
    assert re.match(rf"{path}: decoded, but perhaps damaged \(.*JPEG without end marker.*\)", outcome.warnings[0])


def test_labels_that_were_smoothed_are_warned_of(data: Path, check: Callable[..., Outcome]) -> None:
    """An edge between background and class 4 is no class 1, 2 or 3."""
    path = data / names("val", 0)[1]
    label = np.zeros((60, 44), dtype=np.uint8)
    label[20:40, 10:30] = 4
    write_label(path, cv2.GaussianBlur(label, (5, 5), 2))
    assert not [warning for warning in check().warnings if "edges" in warning]  # so close, they may be classes
    picture = np.random.default_rng(0).integers(0, 255, (60, 44), dtype=np.uint8)
    for pixels, what in ((label * 60, "soft edges between 0 and 240"), (picture, "grey levels, not labels")):
        write_label(path, cv2.GaussianBlur(pixels, (5, 5), 1))
        (warning,) = [line for line in check().warnings if "training takes each level for a class" in line]
        assert warning.startswith(f"{path}: {what}")


def test_a_disk_that_fails_is_a_problem_of_the_file(
    data: Path, check: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> np.ndarray:
        if path.name == "train07.jpg":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read_image(path)

    monkeypatch.setattr("prepare.check.inspection.read_image", fail)
    outcome = check()
    assert outcome.errors == [f"{data / names('train', 7)[0]}: Input/output error; allow reading it, or copy it again"]
