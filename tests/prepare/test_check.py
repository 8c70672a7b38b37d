"""Checking a dataset: exact counts, every fault in its own line, and none hides another."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from episodes.build import evaluation, training_episodes
from episodes.folds import fold_classes
from episodes.lists import write_list
from prepare import coco, voc_lists
from prepare.__main__ import main
from prepare.benchmark import Benchmark
from util import config as config_module
from util.config import load_config
from util.errors import UserError, run_command
from util.files import PROJECT, digest_lines
from util.images import read_image, read_label, write_image, write_label

CLASSES, MIN_AREA = 4, 200
COUNTS = {"train": 24, "val": 28}  # of class 1 to 4: 6 and 7 large objects each


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Photographs of an object each, and of a smaller one of the next class in every third; a void border."""
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for row in range(count):
            shape = (44, 60) if row % 2 else (60, 44)
            image, label = names(split, row)
            write_image(tmp_path / image, rng.integers(0, 255, (*shape, 3), dtype=np.uint8))
            mask = np.zeros(shape, dtype=np.uint8)
            mask[:2] = 255
            mask[5:20, 5 : 20 + row % 5] = 1 + row % CLASSES
            if row % 3 == 0:
                mask[25:30, 5:10] = 1 + (row + 1) % CLASSES
            write_label(tmp_path / label, mask)
        write_list(tmp_path / f"{split}.txt", [names(split, row) for row in range(count)])
    return tmp_path


def names(split: str, row: int) -> tuple[str, str]:
    return f"JPEGImages/{split}{row:02d}.jpg", f"SegmentationClassAug/{split}{row:02d}.png"


def overrides(data: Path, *more: str) -> list[str]:
    lists = [f"DATA.{split}_list={data / split}.txt" for split in COUNTS]
    return [f"DATA.data_root={data}", *lists, f"DATA.classes={CLASSES}", f"DATA.min_area={MIN_AREA}", *more]


def words(data: Path, *options: object, dataset: str = "shapes", experiment: str | None = None) -> list[str]:
    """The command; options that begin with DATA or TRAIN are overrides."""
    texts = [str(option) for option in options]
    settings = [text for text in texts if "=" in text]
    rest = [text for text in texts if "=" not in text]
    chosen = [] if experiment is None else [experiment]
    return ["check", "--workers", "1", *rest, dataset, *chosen, *overrides(data, *settings)]


class Outcome:
    """What a check printed."""

    def __init__(self, text: str, code: int) -> None:
        self.text, self.code = text, code
        self.lines = text.splitlines()
        self.errors = [line.removeprefix("error: ") for line in self.lines if line.startswith("error: ")]
        self.warnings = [line.removeprefix("warning: ") for line in self.lines if line.startswith("warning: ")]

    def rows(self) -> dict[int, tuple[int, ...]]:
        """The four numbers of each class in the tables."""
        found = re.findall(r"^ +(\d+) +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+)", self.text, re.MULTILINE)
        assert len({cells[0] for cells in found}) == len(found)
        return {int(number): tuple(int(cell.replace(",", "")) for cell in cells) for number, *cells in found}

    def queries(self) -> list[tuple[int | None, int]]:
        """Images in training (None where no experiment trains) and in tests, for each fold."""
        lines = [line for line in self.lines if line.startswith("  queries: ")]
        counts = [[re.search(rf"([\d,]+) images in {part}", line) for part in ("training", "tests")] for line in lines]
        return [(train and int(train[1]), int(val[1])) for train, val in counts if val]


@pytest.fixture
def check(data: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run the command over ``data``."""

    def run(*options: object, **keywords: str) -> Outcome:
        capfd.readouterr()
        code = 0
        try:
            main(words(data, *options, **keywords))
        except SystemExit as end:
            code = int(end.code or 0)
        return Outcome(capfd.readouterr().out, code)

    return run


def naive_images(data: Path, split: str, number: int, min_area: int) -> int:
    labels = [read_label(data / names(split, row)[1]) for row in range(COUNTS[split])]
    return sum(sum(1 for value in label.ravel().tolist() if value == number) >= min_area for label in labels)


def test_a_healthy_dataset_is_counted_exactly(data: Path, check: Callable[..., Outcome]) -> None:
    outcome = check()
    assert (outcome.code, outcome.lines[-1], outcome.errors, outcome.warnings) == (0, "SHAPES: ready", [], [])
    assert f"{data / 'train.txt'}: 24 images" in outcome.lines
    assert outcome.rows() == {
        number: tuple(naive_images(data, split, number, area) for split in COUNTS for area in (1, MIN_AREA))
        for number in range(1, CLASSES + 1)
    }
    # Each class in a quarter of the images, and the tests of the unsupervised network over all classes.
    assert outcome.queries() == [(18, 7)] * 4 + [(None, 28)]


@pytest.mark.parametrize("setting", ["DATA.drop_novel_images=false", "DATA.drop_novel_images=true"])
def test_queries_are_those_of_the_episodes(data: Path, check: Callable[..., Outcome], setting: str) -> None:
    queries = check(setting).queries()
    for split in range(4):
        config = load_config("shapes", f"split{split}_demo", overrides(data, setting))
        assert queries[split] == (len(training_episodes(config)), len(evaluation(config).episodes))
    assert ("true" in setting) == (queries[0] != (18, 7))


def test_processes_change_nothing(data: Path, check: Callable[..., Outcome]) -> None:
    (data / names("train", 3)[0]).unlink()
    (data / names("val", 20)[1]).write_bytes(b"")
    assert check().text == check("--workers", 2).text


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def spoil_checksum(path: Path) -> None:
    """As where a bit has changed and the pixels can still be decoded: ``read_label`` notices nothing."""
    data = bytearray(path.read_bytes())
    data[data.index(b"IEND") - 5] ^= 1
    path.write_bytes(data)
    read_label(path)


def as_png_photograph(data: Path) -> None:
    """A photograph may be a PNG, and damaged."""
    pixels = np.random.default_rng(0).integers(0, 255, (60, 44, 3), dtype=np.uint8)
    _, encoded = cv2.imencode(".png", pixels)
    content = bytearray(encoded.tobytes())
    content[len(content) // 2] ^= 1
    (data / names("train", 0)[0]).write_bytes(content)


def set_value(data: Path, value: int) -> None:
    label = read_label(data / names("val", 1)[1])
    label[40:42, :10] = value
    write_label(data / names("val", 1)[1], label)


def add_line(data: Path, line: str, split: str = "train") -> None:
    with (data / f"{split}.txt").open("a") as stream:
        stream.write(f"{line}\n")


def same_id(data: Path) -> None:
    (data / "other").mkdir()
    shutil.copy(data / names("train", 0)[0], data / "other" / "train00.jpg")
    add_line(data, f"other/train00.jpg {names('train', 0)[1]}")


def without_label(data: Path) -> None:
    text = (data / "train.txt").read_text()
    (data / "train.txt").write_text(text.replace(f" {names('train', 2)[1]}", ""))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing list": (lambda data: (data / "val.txt").unlink(), r"val\.txt: list not found; `python -m prepare` makes"),
    "empty list": (lambda data: (data / "val.txt").write_text("\n"), r"val\.txt: the list is empty; it should hold"),
    "three words": (
        lambda data: add_line(data, "a b c"),
        r"train\.txt, line 25: expected 'IMAGE LABEL', found 3 words",
    ),
    "line without label": (without_label, r"train\.txt, line 3: no label after .*train02\.jpg; write 'IMAGE LABEL'"),
    "duplicate ids": (same_id, r"line 25: other/train00\.jpg has the same file name as .* on line 1; rename one"),
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
    "damaged PNG photograph": (as_png_photograph, r"train00\.jpg: not a readable image; replace it"),
    "truncated PNG": (lambda data: cut(data / names("val", 0)[1]), r"val00\.png: not a readable label"),
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
        r"val00\.png: the label is 60x44 pixels, its image .*val00\.jpg is 44x60; make them equal",
    ),
    "value out of range": (
        lambda data: set_value(data, CLASSES + 1),
        r"val01\.png: 20 pixels of value 5; expected 0 to 4 and 255; correct the label or DATA\.classes",
    ),
    "all void": (
        lambda data: write_label(data / names("val", 0)[1], np.full((60, 44), 255, dtype=np.uint8)),
        r"val00\.png: all of it is 255, not counted; label it or take the image off the list",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_line(data: Path, check: Callable[..., Outcome], fault: str) -> None:
    spoil, message = FAULTS[fault]
    spoil(data)
    outcome = check()
    assert len(outcome.errors) == 1 and re.search(message, outcome.errors[0])
    assert str(data) in outcome.errors[0]
    assert (outcome.code, outcome.lines[-1]) == (1, "1 problem")


def test_the_highest_value_and_void_are_allowed(data: Path, check: Callable[..., Outcome]) -> None:
    for value in (CLASSES, 255):
        set_value(data, value)
        assert check().code == 0


def test_no_problem_hides_another(data: Path, check: Callable[..., Outcome], tmp_path: Path) -> None:
    """Faults of several kinds in both lists; image and label of one example are both missing."""
    faults = ("missing image", "missing label", "truncated JPEG", "another size", "value out of range", "three words")
    for fault in faults:
        FAULTS[fault][0](data)
    (data / names("train", 5)[1]).unlink()
    outcome = check("--report", tmp_path / "report.json")
    for message in (*(FAULTS[fault][1] for fault in faults), r"label .*train05\.png not found"):
        assert len([error for error in outcome.errors if re.search(message, error)]) == 1, message
    assert len(outcome.errors) == 7 and outcome.lines[-1] == "7 problems"
    report = json.loads((tmp_path / "report.json").read_text())
    for found, key in ((outcome.errors, "errors"), (outcome.warnings, "warnings")):
        assert sorted(found) == sorted(entry["message"] for entry in report[key])
    # What has a problem is no episode's: classes 1 and 2 lose an image of the training list.
    assert {number: row[1] for number, row in outcome.rows().items()} == {1: 5, 2: 5, 3: 6, 4: 6}


def test_all_missing_files_are_told_and_the_list_is_kept_short(
    data: Path, check: Callable[..., Outcome], tmp_path: Path
) -> None:
    shutil.rmtree(data / "JPEGImages")
    outcome = check("--report", tmp_path / "report.json")
    missing = [error for error in outcome.errors if "image " in error and "not found" in error]
    assert len(missing) == 20 and "train19.jpg" in missing[-1]
    assert "  and 32 more missing images; --report FILE.json lists all" in outcome.lines
    errors = json.loads((tmp_path / "report.json").read_text())["errors"]
    assert len([entry for entry in errors if entry["kind"] == "missing images"]) == sum(COUNTS.values())
    assert outcome.lines[-1] == f"{len(errors)} problems"


def test_a_missing_folder_is_one_problem(data: Path, check: Callable[..., Outcome]) -> None:
    outcome = check(f"DATA.data_root={data / 'nowhere'}")
    assert [re.sub(r"=\S+nowhere", "", error) for error in outcome.errors] == [
        "DATA.data_root: folder not found; `python -m prepare` makes it, or name another"
    ]


def test_rare_classes(data: Path, check: Callable[..., Outcome]) -> None:
    """Class 4 in one training image, class 3 in five: the folds that train on them are named."""
    dropped = {names("train", row) for row in (7, 11, 15, 19, 23, 22)}
    write_list(data / "train.txt", [pair for row in range(24) if (pair := names("train", row)) not in dropped])
    outcome = check()
    start = f"{data / 'train.txt'}: class"
    advice = "use a longer list or a smaller DATA.min_area"
    assert outcome.errors == [
        f"{start} 4 has 1 image with 200 pixels of it, episodes of 1 shot take 2 (training of fold 0, fold 1, fold 2); "
        f"{advice}"
    ]
    assert outcome.warnings == [
        f"{start} 3 has 5 images with 200 pixels of it, episodes of 5 shots take 6 (training of fold 0, fold 1, "
        f"fold 3); {advice}"
    ]
    # Fold 3 does not train on class 4, nor does unsupervised training read labels.
    assert check(experiment="split3_demo").code == check(experiment="ssl_demo").code == 0
    # Experiments with five shots need them.
    assert len(check("TRAIN.shot=5").errors) == 2
    with pytest.raises(UserError, match="class 4 has 1"):
        training_episodes(load_config("shapes", "split0_demo", overrides(data)))


def test_a_class_that_is_never_tested_is_a_problem_of_its_fold(data: Path, check: Callable[..., Outcome]) -> None:
    write_list(data / "val.txt", [names("val", row) for row in range(28) if row % CLASSES != 1])
    outcome = check()
    assert re.fullmatch(
        r".*val\.txt: class 2 has 0 images with 200 pixels .* \(tests of fold 1, all folds\); .*", outcome.errors[0]
    )
    assert len(outcome.errors) == 1
    assert check(experiment="split0_demo").code == 0


def test_too_few_classes_for_a_fold(data: Path, check: Callable[..., Outcome]) -> None:
    assert "TRAIN.split=0: 1 classes are too few for this fold; use split 5" in check("DATA.classes=1").errors


def test_one_experiment_has_a_table_of_its_classes(data: Path, check: Callable[..., Outcome]) -> None:
    outcome = check(experiment="split1_demo")
    assert list(outcome.rows()) == [2, 1, 3, 4]
    assert len(re.findall(r"\(trained on\)$", outcome.text, re.MULTILINE)) == 3
    assert outcome.queries() == [(18, 7)]


def test_unsupervised_training_opens_no_label(data: Path, check: Callable[..., Outcome]) -> None:
    for row in range(COUNTS["train"]):
        (data / names("train", row)[1]).unlink()
    outcome = check(experiment="ssl_demo")
    assert outcome.lines[-1] == "SHAPES: ready"
    assert f"{data / 'train.txt'}: 24 images; labels not read" in outcome.lines
    assert check(experiment="split0_demo").code == 1


def test_a_dataset_without_labels_needs_no_test_list(data: Path, check: Callable[..., Outcome]) -> None:
    shutil.rmtree(data / "SegmentationClassAug")
    write_list(data / "train.txt", [(names("train", row)[0], None) for row in range(24)])
    (data / "val.txt").unlink()
    outcome = check()
    assert outcome.lines == [
        f"{data / 'train.txt'}: 24 images; no labels",
        f"{data / 'val.txt'}: not there",
        "",
        "SHAPES: ready",
    ]
    cut(data / names("train", 3)[0])
    assert "train03.jpg: truncated JPEG" in check().errors[0]
    outcome = check(experiment="split0_demo")
    assert f"{data / 'train.txt'}: no line names a label; write 'IMAGE LABEL' a line" in outcome.errors


def test_images_in_both_lists_and_repeated_lines_are_warnings(data: Path, check: Callable[..., Outcome]) -> None:
    add_line(data, " ".join(names("val", 3)))
    add_line(data, " ".join(names("train", 4)))
    outcome = check()
    assert outcome.code == 0 and len(outcome.warnings) == 2
    assert f"{data / 'train.txt'}, line 26: {names('train', 4)[0]} is on line 5 already, left out" in outcome.warnings
    shared = f"{data / 'train.txt'} and {data / 'val.txt'}: 1 images are in both ({names('val', 3)[0]})"
    assert any(warning.startswith(shared) for warning in outcome.warnings)


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


def test_a_disk_that_fails_is_a_problem_of_the_file(
    data: Path, check: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> np.ndarray:
        if path.name == "train07.jpg":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read_image(path)

    monkeypatch.setattr("prepare.check_files.read_image", fail)
    outcome = check()
    assert outcome.errors == [f"{data / names('train', 7)[0]}: Input/output error; allow reading it, or copy it again"]


@pytest.mark.parametrize(
    ("dataset", "experiment", "benchmarks"),
    [("pascal", "split0_mobilenetv2", voc_lists.BENCHMARK), ("coco", "split0_mobilenetv2", coco.BENCHMARK)],
)
def test_lists_are_compared_with_the_benchmarks(
    data: Path,
    check: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    dataset: str,
    experiment: str,
    benchmarks: dict[str, Benchmark],
) -> None:
    ids = [f"train{row:02d}" for row in range(24)]
    monkeypatch.setitem(benchmarks, "train", Benchmark(24, digest_lines(ids)))
    text = check(dataset=dataset, experiment=experiment).text
    assert f"{data / 'train.txt'}: 24 images, exactly the benchmark's\n" in text
    assert re.search(r"val\.txt: 28 images, [\d,]+ fewer than the benchmark's", text)


def test_classes_are_the_datasets(data: Path, check: Callable[..., Outcome]) -> None:
    """COCO has eighty whatever DATA.classes says, and every fourth is held back."""
    set_value(data, 80)
    outcome = check(dataset="coco", experiment="split1_mobilenetv2")
    assert list(outcome.rows())[:20] == fold_classes("coco", 1)[1] and len(outcome.rows()) == 80
    assert not any("expected 0 to" in error for error in outcome.errors)
    set_value(data, 81)
    found = check(dataset="coco", experiment="split1_mobilenetv2").errors
    assert any("20 pixels of value 81; expected 0 to 80 and 255" in error for error in found)


def test_a_killed_worker_is_a_line_and_no_verdict(
    data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def be_killed(path: Path) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    # Forked processes have the function in place of the real one.
    fork = partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("fork"))
    monkeypatch.setattr("prepare.workers.ProcessPoolExecutor", fork)
    monkeypatch.setattr("prepare.check_files.read_image", be_killed)
    with pytest.raises(SystemExit) as end:
        run_command(main, words(data, "--workers", 2))
    assert end.value.code == 2
    printed = capfd.readouterr()
    assert "error: a worker process was killed, as happens when memory runs out" in printed.err
    assert "ready" not in printed.out and "Traceback" not in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["birds"], "no dataset 'birds' in config/; there are: coco, pascal, shapes"),
        (["shapes", "split9"], "no experiment 'split9' in config/shapes/; there are: split0_demo"),
        (["shapes", "DATA.min_aera=3"], "unknown key 'DATA.min_aera' .did you mean DATA.min_area"),
        (["shapes", "--workers", "0"], "0 is not a whole number of at least 1"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run_command(main, ["check", *arguments])
    assert end.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_experiments_about_other_data_are_checked_one_by_one(
    data: Path, check: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PROJECT / "config", tmp_path / "project" / "config")
    monkeypatch.setattr(config_module, "PROJECT", tmp_path / "project")
    with (tmp_path / "project/config/shapes/shapes_split2_demo.yaml").open("a") as stream:
        stream.write("DATA:\n  drop_novel_images: true\n")
    with pytest.raises(UserError, match="split0_demo and split2_demo have different DATA; name the experiment"):
        check()
    assert check(experiment="split2_demo").code == 0


def test_a_folder_made_by_prepare_is_ready(
    data: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT / "config", project / "config")
    for module in ("prepare.folder", "prepare.folder_config", "util.config"):
        monkeypatch.setattr(f"{module}.PROJECT", project)
    main(["folder", str(data / "JPEGImages"), "--masks", str(data / "SegmentationClassAug"), "--name", "mine"])
    main(["check", "mine", "DATA.min_area=200", "--workers", "1"])
    text = capfd.readouterr().out
    assert text.endswith("MINE: ready\n")
    assert "train.txt: 42 images" in text and "val.txt: 10 images" in text
