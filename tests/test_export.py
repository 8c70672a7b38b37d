"""The command: what it writes runs in onnxruntime, as docs/integrations.md has it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import export as export_command
from segmenter import Segmenter
from tests.masks.small_images import draw_image, write_extractor
from util.errors import UserError
from util.files import PROJECT
from util.images import read_label, write_image, write_label


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Supports of a class, weights of a backbone, and a photograph."""
    root = tmp_path_factory.mktemp("export")
    disc = np.hypot(*np.mgrid[-60:60, -80:80]) < 35
    for number in range(2):
        write_image(root / "supports" / "disc" / f"{number}.png", draw_image(number))
        write_label(root / "supports" / "disc" / f"{number}_mask.png", 3 * disc.astype(np.uint8))
    write_extractor(root / "backbone.pth", "mobilenetv2_035")
    Image.fromarray(draw_image(1)).save(root / "new.jpg")
    return root


def test_the_example_of_the_page_runs_what_the_command_writes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    backbone = ["TRAIN.backbone=mobilenetv2_035", "TRAIN.backbone_weights=backbone.pth"]
    words = ["--method", "nearest", "--backbone", *backbone, "--supports", "supports", "--class", "3", "out.onnx"]
    export_command.main(words)
    said = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\S+ out\.onnx: \d+\.\d MiB; classes: disc", said[-1])
    assert len(said) == 4  # the device, two masks, the file: torch's exporter is silent
    examples = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/integrations.md").read_text(), re.DOTALL)
    (example,) = (code for code in examples if "onnxruntime" in code)
    Path("example.py").write_text(example)
    names = runpy.run_path("example.py")
    segmenter = Segmenter.load(method="nearest", backbone=backbone)
    stems = ["supports/disc/0", "supports/disc/1"]
    segmenter.fit([f"{stem}.png" for stem in stems], [f"{stem}_mask.png" for stem in stems], "disc", 3)
    monkeypatch.setattr("segmenter.refined", lambda difference, _: 1 / (1 + np.exp(-difference)))
    expected = segmenter.predict("new.jpg").mask
    assert names["classes"] == ["disc"] and 0.05 < expected.mean() < 0.95
    assert (read_label(folder / "mask.png") == expected).mean() > 0.999


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("out.onnx --supports supports", "give either RUN or --method"),
        ("run out.onnx --supports supports --method nearest", "give either RUN or --method"),
        ("run out.onnx --supports supports --backbone a=b", "--backbone: a checkpoint has its own"),
        ("run out.onnx --supports supports", r"run: no checkpoint here"),
        ("run out --supports supports", "out: expected the name of a file that ends in .onnx"),
        ("run out.onnx --supports none", "--supports none: not a folder"),
        ("run --supports supports", "give either RUN or --method"),
    ],
)
def test_mistakes(folder: Path, words: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=message):
        export_command.main(words.split())
