"""Images to pretrain on, and a run that is interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

import masks.pretrain.training
from tests.masks.pretrain.pretraining import draw_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_images(tmp_path / "images")


@pytest.fixture
def stop_after_first_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when the second epoch begins."""
    train_epoch = masks.pretrain.training._train_epoch

    def interrupted(*arguments: object) -> None:
        if arguments[3] == 1:
            raise KeyboardInterrupt
        train_epoch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(masks.pretrain.training, "_train_epoch", interrupted)
