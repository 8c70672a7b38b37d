"""Images with weights for a tiny extractor, made once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.masks.small_images import COUNT, write_extractor, write_images


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ROOT for ``create.sh`` with ``shapes/``, ``train.txt`` and ``tiny.pth``."""
    root = tmp_path_factory.mktemp("masks")
    write_images(root, COUNT)
    write_extractor(root / "tiny.pth")
    return root


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Iterator[None]:
    """The command logs to the captured terminal of its test, which no later test has."""
    yield
    logging.getLogger("unsupfss").handlers.clear()
