"""What commands import: nothing heavy before their words and configuration are right, timm only for a network."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.tracked_files import relative, tracked_files
from util.files import PROJECT

# Words that each command refuses, and where it reads a configuration one with a wrong key.
MISTAKES = {
    "train": ["shapes", "moon ssl_demo", "shapes ssl_demo TRAIN.epoch=1"],
    "test": ["shapes", "moon split0_demo", "shapes split0_demo --method none", "shapes split0_demo TRAIN.epoch=1"],
    "predict": [
        "--query q",
        "--checkpoint c --support none.png none.png --query q",
        "--checkpoint c --support none.png none.png --query README.md",
        "--method nearest --support none.png none.png --query README.md --backbone TRAIN.backbone_weights=none.pth",
        "--checkpoint c --supports none --query README.md",
    ],
    "export": [
        "",
        "run --supports none",
        "out.onnx --supports none",
        "run out.onnx --supports none",
        "out.onnx --supports docs --method nearest --backbone TRAIN.backbone_weights=none.pth",
    ],
    "prepare": ["moon", "shapes --train x", "check shapes ssl_demo TRAIN.epoch=1"],
    "commands.experiments": ["pascal", "moon resnet50", "pascal resnet50 TRAIN.epoch=1", "pascal resnet50 --only x"],
    "engine.compare": ["a", "a b --against c", "none --against none"],
    "engine.report": ["", "none"],
    "masks.create": ["", "data moon", "data shapes experiment=ssl_demo TRAIN.epoch=1"],
    "masks.pretrain": ["images", "images out --size x", "images out --probe list.txt"],
    "masks.report": ["data", "data moon", "data shapes experiment=ssl_demo TRAIN.epoch=1"],
    "model.import_published": ["", "one"],
    "util.native": ["util"],
    "web": ["--port x", "--checkpoint none", "--method moon", "--checkpoint README.md --backbone TRAIN.backbone=x"],
}
RUN = """
import json, runpy, sys
name, *lines = json.loads(sys.argv[1])
for line in lines:
    sys.argv = [name, *line.split()]
    try:
        if "." in name or name in ("prepare", "web"):
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(f"{name}.py", run_name="__main__")
    except SystemExit as stop:
        heavy = sorted({"torch", "torchvision", "timm", "scipy", "sklearn"} & sys.modules.keys())
        print("\\noutcome", json.dumps([line, stop.code, heavy]))
"""


def test_every_command_is_tried() -> None:
    """Commands are the files that end with ``run_command``."""
    files = [path for path in tracked_files(".py") if path.read_text().endswith("    run_command(main)\n")]
    names = [relative(path).removesuffix(".py").replace("/", ".").removesuffix(".__main__") for path in files]
    assert sorted(name for name in names if not name.startswith(("tests.", "benchmarks."))) == sorted(MISTAKES)


@pytest.mark.parametrize("name", MISTAKES)
def test_words_and_configuration_are_read_before_torch_is_imported(name: str) -> None:
    lines = [*MISTAKES[name], "--help"]
    printed = python(RUN, json.dumps([name, *lines]))
    outcomes = [json.loads(line.removeprefix("outcome ")) for line in printed if line.startswith("outcome ")]
    assert outcomes == [[line, 0 if line == "--help" else 2, []] for line in lines]


@pytest.mark.slow
def test_timm_is_imported_with_the_first_network() -> None:
    program = """
import sys
import commands.meta_test, commands.meta_training, commands.prediction.queries, masks.creation, masks.report.measurement
import model.weights.foreign
print("timm" in sys.modules, "torchvision" in sys.modules)
from model.frozen.backbone import build_backbone
build_backbone("resnet18", weights=None, normalize="imagenet", mid_stages=[-2])
print("timm" in sys.modules)
"""
    assert python(program) == ["False False", "True"]


def python(program: str, *arguments: str) -> list[str]:
    """The lines that ``program`` prints, in a process of its own in the project's folder."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
