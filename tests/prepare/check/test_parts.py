"""Lists: every fault in its own line, what need not be there, and whether they are the benchmarks."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from episodes.lists import write_list
from episodes.protocols import PROTOCOLS, Benchmark, protocol
from tests.prepare.small_dataset import COUNTS, Outcome, add_line, cut, names
from util.files import digest_lines


def same_id(data: Path) -> None:
    (data / "other").mkdir()
    shutil.copy(data / names("train", 0)[0], data / "other" / "train00.jpg")
    add_line(data, f"other/train00.jpg {names('train', 0)[1]}")


def without_label(data: Path) -> None:
    take_label(data, "val", 2)


def take_label(data: Path, split: str, row: int) -> None:
    path = data / f"{split}.txt"
    path.write_text(path.read_text().replace(f" {names(split, row)[1]}", ""))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing list": (lambda data: (data / "val.txt").unlink(), r"val\.txt: list not found; `python -m prepare` makes"),
    "empty list": (lambda data: (data / "val.txt").write_text("\n"), r"val\.txt: the list is empty; expected one"),
    "three fields": (
        lambda data: add_line(data, "a b c"),
        r"train\.txt, line 25: expected 'IMAGE LABEL', found 3 fields",
    ),
    "line without label": (without_label, r"val\.txt, line 3: no label after .*val02\.jpg; write 'IMAGE LABEL'"),
    "duplicate ids": (same_id, r"line 25: other/train00\.jpg has the same file name as .* on line 1; rename one"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_line(data: Path, check: Callable[..., Outcome], fault: str) -> None:
    spoil, message = FAULTS[fault]
    spoil(data)
    check().assert_one_problem(message, data)


def test_images_in_both_lists_and_repeated_lines_are_warnings(data: Path, check: Callable[..., Outcome]) -> None:
    add_line(data, " ".join(names("val", 3)))
    add_line(data, " ".join(names("train", 4)))
    outcome = check()
    assert outcome.code == 0 and len(outcome.warnings) == 2
    assert f"{data / 'train.txt'}, line 26: {names('train', 4)[0]} is already on line 5; left out" in outcome.warnings
    shared = f"{data / 'train.txt'} and {data / 'val.txt'}: 1 images are in both ({names('val', 3)[0]})"
    assert any(warning.startswith(shared) for warning in outcome.warnings)


def test_unsupervised_training_opens_no_label(data: Path, check: Callable[..., Outcome]) -> None:
    for row in range(COUNTS["train"]):
        (data / names("train", row)[1]).unlink()
    outcome = check(experiment="ssl_demo")
    assert outcome.lines[-1] == "SHAPES: ready"
    assert f"{data / 'train.txt'}: 24 images; labels not read" in outcome.lines
    assert check(experiment="split0_demo").code == 1


def test_some_images_to_train_on_may_have_no_label(data: Path, check: Callable[..., Outcome]) -> None:
    take_label(data, "train", 2)
    outcome = check()
    assert outcome.lines[-1] == "SHAPES: ready"
    assert f"{data / 'train.txt'}: 24 images; 23 have labels" in outcome.lines
    (data / "val.txt").unlink()
    assert f"{data / 'val.txt'}: not found" in check().lines
    assert check().lines[-1] == "SHAPES: ready"


def test_a_dataset_without_labels_needs_no_test_list(data: Path, check: Callable[..., Outcome]) -> None:
    shutil.rmtree(data / "SegmentationClassAug")
    write_list(data / "train.txt", [(names("train", row)[0], None) for row in range(24)])
    (data / "val.txt").unlink()
    outcome = check()
    assert outcome.lines == [
        f"{data / 'train.txt'}: 24 images; no labels",
        f"{data / 'val.txt'}: not found",
        "",
        "SHAPES: ready",
    ]
    cut(data / names("train", 3)[0])
    assert "train03.jpg: truncated JPEG" in check().errors[0]
    outcome = check(experiment="split0_demo")
    assert f"{data / 'train.txt'}: no line names a label; write one 'IMAGE LABEL' per line" in outcome.errors


@pytest.mark.parametrize("dataset", ["pascal", "coco"])
def test_lists_are_compared_with_the_benchmarks(
    data: Path,
    check: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    dataset: str,
) -> None:
    ids = [f"train{row:02d}" for row in range(24)]
    benchmarks = {**protocol(dataset).benchmarks, "train": Benchmark(24, digest_lines(ids))}
    monkeypatch.setitem(PROTOCOLS, dataset, replace(protocol(dataset), benchmarks=benchmarks))
    text = check(dataset=dataset, experiment="split0_mobilenetv2").text
    assert f"{data / 'train.txt'}: 24 images, exactly the benchmark's\n" in text
    assert re.search(r"val\.txt: 28 images, [\d,]+ fewer than the benchmark's", text)
