"""A small world in which every command works, so that a single mistake is the only one."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

import commands.experiments.__main__
import engine.compare
import engine.report
import export
import masks.create
import masks.pretrain.__main__
import masks.report.__main__
import model.import_published
import predict
import prepare.__main__
import test as test_command
import train
import util.native
import web.__main__
from tests.prepare.coco.small_coco import write_coco
from tests.prepare.pascal.voc_downloads import draw_downloads
from tests.time_limit import time_limit
from tests.workspace import Workspace
from util.errors import run_command
from util.images import write_image, write_label

Main = Callable[[list[str]], None]

COMMANDS: dict[str, Main] = {
    "train": train.main,
    "test": test_command.main,
    "predict": predict.main,
    "export": export.main,
    "prepare": prepare.__main__.main,
    "commands.experiments": commands.experiments.__main__.main,
    "engine.compare": engine.compare.main,
    "engine.report": engine.report.main,
    "masks.create": masks.create.main,
    "masks.pretrain": masks.pretrain.__main__.main,
    "masks.report": masks.report.__main__.main,
    "model.import_published": model.import_published.main,
    "util.native": util.native.main,
    "web": web.__main__.main,
}
_LONGEST = 60  # seconds that a mistake may take


class World(Workspace):
    """What ``Workspace`` has, a run that was trained and tested, downloads, images with masks of the user's own."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.train("run", "TRAIN.epochs=1")
        self.test("run", "TRAIN.epochs=1")
        write_coco(root / "coco")
        draw_downloads(root / "pascal")
        torch.save({"state_dict": {"conv1.weight": torch.zeros(4, 3, 7, 7)}}, root / "foreign.pth")
        image, mask = np.full((80, 90, 3), 60, dtype=np.uint8), np.zeros((80, 90), dtype=np.uint8)
        image[20:60, 20:70], mask[20:60, 20:70] = (200, 40, 30), 1
        for name in ("a", "b", "c"):
            write_image(root / "own" / f"{name}.png", image)
            write_label(root / "own_masks" / f"{name}.png", mask)
        write_image(root / "annotated" / "a.png", image)
        write_label(root / "annotated" / "a_mask.png", mask)

    def command_lines(self) -> dict[str, list[str]]:
        """A command line that works for every command, and for every part of ``prepare``; the name begins with it."""
        w = str(self.root)
        small = ["--size", "32", "--epochs", "1", "--batch", "2", "--queue", "2", "--workers", "0"]
        return {
            "train": ["shapes", "ssl_demo", *self.overrides("new", "TRAIN.epochs=1")],
            "train again": ["shapes", "ssl_demo", *self.overrides("run", "TRAIN.epochs=1")],
            "test": ["shapes", "split0_demo", *self.overrides("run", "TRAIN.epochs=1")],
            "predict": [
                *("--checkpoint", f"{w}/run/latest.pth", "--support", f"{w}/own/a.png", f"{w}/own_masks/a.png"),
                *("--query", f"{w}/own/b.png", "--output", f"{w}/predictions"),
            ],
            "export": [f"{w}/run", "--supports", f"{w}/annotated", f"{w}/network.onnx"],
            "prepare shapes": [
                *("shapes", "--root", f"{w}/drawn", "--lists", f"{w}/drawn_lists", "--train", "2", "--val", "2"),
                *("--size", "64", "--seed", "1", "--workers", "1"),
            ],
            "prepare coco": [
                *(
                    "coco",
                    "--images",
                    f"{w}/coco",
                    "--root",
                    f"{w}/made",
                    "--lists",
                    f"{w}/made_lists",
                    "--workers",
                    "1",
                ),
                *("--annotations", f"{w}/coco/annotations/instances_train2014.json"),
                *(f"{w}/coco/annotations/instances_val2014.json", "--crowd", "ignore"),
            ],
            "prepare pascal": [
                *("pascal", "--voc", f"{w}/pascal/VOC2012", "--sbd", f"{w}/pascal/benchmark_RELEASE"),
                *("--root", f"{w}/made", "--lists", f"{w}/made_lists"),
            ],
            "prepare subset": [
                *("subset", f"{w}/lists/train.txt", "--root", f"{w}/shapes", "--seed", "4", "--percent", "50"),
            ],
            "prepare check": ["check", "--workers", "1", "shapes", "ssl_demo", *self.overrides("run")],
            "masks.create": [w, "shapes", *self.mask_overrides],
            "masks.report": ["--images", "2", w, "shapes", *self.mask_overrides],
            "masks.pretrain": [f"{w}/own", f"{w}/pretrained.safetensors", *small],
            "engine.report": [f"{w}/run"],
            "engine.compare": [f"{w}/run", "--against", f"{w}/run", "--draws", "100"],
            "model.import_published": [f"{w}/backbone.safetensors", f"{w}/imported.pth"],
        }


def run(name: str, command_line: Sequence[str]) -> tuple[int, str]:
    """The exit code of a command (the first word of ``name``) and what it wrote to stderr."""
    errors = io.StringIO()
    with time_limit(_LONGEST), contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            run_command(COMMANDS[name.split()[0]], list(command_line))
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            return stop.code, errors.getvalue()
    return 0, errors.getvalue()


def mistake(name: str, command_line: Sequence[str]) -> str:
    """The one line that a command ends with after a mistake: exit code 2, no traceback, within a minute."""
    code, errors = run(name, command_line)
    assert code == 2, f"exit code {code}: {errors}"
    return assert_one_line(errors)


def assert_one_line(errors: str) -> str:
    """The line that names the mistake: the last and only one, and no traceback."""
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and errors.splitlines()[-1] == lines[0], errors
    assert "Traceback" not in errors and "usage:" not in errors, errors
    assert not re.search(r"[\0-\x1f\x7f]", lines[0]), f"control characters: {lines[0]!r}"
    return lines[0]
