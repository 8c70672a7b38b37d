"""Fixtures of the tests of ``python -m prepare folder``."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.prepare.own_photographs import SHAPE
from util import config as config_module
from util.files import PROJECT
from util.images import write_image, write_label


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder of the test's own, with the configurations that all datasets share."""
    folder = tmp_path / "project"
    (folder / "config").mkdir(parents=True)
    for name in ("base.yaml", "mobilenetv2.yaml"):
        shutil.copy(PROJECT / "config" / name, folder / "config" / name)
    monkeypatch.setattr("prepare.folder.PROJECT", folder)
    monkeypatch.setattr("prepare.folder_config.PROJECT", folder)
    monkeypatch.setattr(config_module, "PROJECT", folder)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten photographs in two folders; masks of classes 1 to 6 beside them in ``masks``."""
    rng = np.random.default_rng(0)
    for number in range(10):
        stem = f"{'ab'[number % 2]}/photo{number}"
        write_image(tmp_path / "images" / f"{stem}.jpg", rng.integers(0, 255, (*SHAPE, 3), dtype=np.uint8))
        label = np.zeros(SHAPE, dtype=np.uint8)
        label[10:30, 10:40] = number % 6 + 1
        label[30:32] = 255
        write_label(tmp_path / "masks" / f"{stem}.png", label)
    return tmp_path / "images"
