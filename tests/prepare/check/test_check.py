"""The command: what it takes, how it ends, and that processes change nothing."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from prepare.__main__ import main
from tests.prepare.small_dataset import Outcome, arguments, names
from util import config as config_module
from util.errors import UserError, run_command
from util.files import PROJECT
from util.images import read_label, write_label


def test_processes_change_nothing(data: Path, check: Callable[..., Outcome]) -> None:
    (data / names("train", 3)[0]).unlink()
    (data / names("val", 20)[1]).write_bytes(b"")
    assert check().text == check("--workers", 2).text


def test_a_folder_made_by_prepare_is_ready(
    data: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT / "config", project / "config")
    for module in ("prepare.folder", "prepare.folder.dataset_config", "util.config"):
        monkeypatch.setattr(f"{module}.PROJECT", project)
    main(
        [
            "folder",
            str(data / "JPEGImages"),
            "--masks",
            str(data / "SegmentationClassAug"),
            "--name",
            "mine",
            "--val-share",
            "0.5",
        ]
    )
    main(["check", "mine", "DATA.min_area=225", "--workers", "1"])
    text = capfd.readouterr().out
    assert text.endswith("MINE: ready\n")
    assert "train.txt: 26 images" in text and "val.txt: 26 images" in text


@pytest.mark.parametrize("classes", ["1", "6"])
def test_a_folder_without_masks_is_ready(
    project: Path, images: Path, classes: str, capfd: pytest.CaptureFixture[str]
) -> None:
    main(["folder", str(images), "--name", "mine", "--classes", classes])
    main(["check", "mine", "--workers", "1"])
    text = capfd.readouterr().out
    assert text.endswith("MINE: ready\n")
    assert text.count("classes are too few for this fold") == (4 if classes == "1" else 0)


def test_a_folder_with_masks_of_one_class_is_ready(
    project: Path, images: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in (images.parent / "masks").rglob("*.png"):
        write_label(path, np.minimum(read_label(path), 1))
    main(["folder", str(images), "--masks", str(images.parent / "masks"), "--name", "mine"])
    main(["check", "mine", "--workers", "1"])
    assert capfd.readouterr().out.endswith("MINE: ready\n")
    with pytest.raises(SystemExit):
        main(["check", "mine", "split0_mobilenetv2", "--workers", "1"])
    assert "error: TRAIN.split=0: 1 classes are too few for this fold" in capfd.readouterr().out


def test_a_missing_folder_is_one_problem(data: Path, check: Callable[..., Outcome]) -> None:
    outcome = check(f"DATA.data_root={data / 'nowhere'}")
    assert [re.sub(r"=\S+nowhere", "", error) for error in outcome.errors] == [
        "DATA.data_root: folder not found; `python -m prepare` makes it, or name another"
    ]


def test_experiments_about_other_data_are_checked_one_by_one(
    data: Path, check: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PROJECT / "config", tmp_path / "project" / "config")
    monkeypatch.setattr(config_module, "PROJECT", tmp_path / "project")
    file = tmp_path / "project" / "config" / "shapes" / "shapes_split2_demo.yaml"
    file.write_text("base: [base.yaml, ../split.yaml, demo.yaml]\nDATA:\n  drop_novel_images: true\n")
    with pytest.raises(UserError, match="joint_demo and split2_demo have different DATA; name the experiment"):
        check()
    assert check(experiment="split2_demo").code == 0


def test_a_killed_worker_is_a_line_and_no_verdict(
    data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def be_killed(path: Path) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    # Forked processes have the function in place of the real one.
    fork = partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("fork"))
    monkeypatch.setattr("prepare.workers.ProcessPoolExecutor", fork)
    monkeypatch.setattr("prepare.check.inspection.read_image", be_killed)
    with pytest.raises(SystemExit) as end:
        run_command(main, arguments(data, "--workers", 2))
    assert end.value.code == 2
    printed = capfd.readouterr()
    assert "error: a worker process was killed, probably because memory ran out" in printed.err
    assert "ready" not in printed.out and "Traceback" not in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["birds"], "no dataset 'birds' in config/; there are: coco, pascal, shapes"),
        (["shapes", "split9"], "no experiment 'split9' in config/shapes/; there are: joint_demo"),
        (["shapes", "DATA.min_aera=3"], "unknown key 'DATA.min_aera' .did you mean DATA.min_area"),
        (["shapes", "--workers", "0"], "0 is not a whole number of at least 1"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run_command(main, ["check", *arguments])
    assert end.value.code == 2
    assert re.search(message, capsys.readouterr().err)
