"""What the tests of ``prepare folder`` share, and those of ``prepare check``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prepare.__main__ import main
from tests.prepare.own_images import SHAPE
from tests.prepare.small_dataset import Outcome, arguments, write_dataset
from util import config as config_module
from util.files import PROJECT
from util.images import write_image, write_label


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder of the test's own, with the configurations that all datasets share, of one family."""
    folder = tmp_path / "project"
    (folder / "config").mkdir(parents=True)
    for name in ("base.yaml", "ssl.yaml", "joint.yaml", "split.yaml", "mobilenetv2.yaml"):
        shutil.copy(PROJECT / "config" / name, folder / "config" / name)
    monkeypatch.setattr("prepare.folder.PROJECT", folder)
    monkeypatch.setattr("prepare.folder.dataset_config.PROJECT", folder)
    monkeypatch.setattr(config_module, "PROJECT", folder)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten images in two folders; masks of classes 1 to 6 next to them in ``masks``."""
    rng = np.random.default_rng(0)
    for number in range(10):
        stem = f"{'ab'[number % 2]}/photo{number}"
        write_image(tmp_path / "images" / f"{stem}.jpg", rng.integers(0, 255, (*SHAPE, 3), dtype=np.uint8))
        label = np.zeros(SHAPE, dtype=np.uint8)
        label[10:30, 10:40] = number % 6 + 1
        label[30:32] = 255
        write_label(tmp_path / "masks" / f"{stem}.png", label)
    return tmp_path / "images"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Folder of a healthy dataset and its lists."""
    write_dataset(tmp_path)
    return tmp_path


@pytest.fixture
def check(data: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run the command over ``data``."""

    def run(*options: object, **keywords: str) -> Outcome:
        capfd.readouterr()
        code = 0
        try:
            main(arguments(data, *options, **keywords))
        except SystemExit as end:
            code = int(end.code or 0)
        return Outcome(capfd.readouterr().out, code)

    return run
