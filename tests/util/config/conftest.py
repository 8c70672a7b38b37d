"""A configuration file for the tests of util.config."""

from collections.abc import Callable
from pathlib import Path

import pytest

from util import config
from util.files import PROJECT


@pytest.fixture
def write_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes ``config/pascal/pascal_ssl_resnet50.yaml`` of an otherwise empty project over the real base."""
    folder = tmp_path / "config" / "pascal"
    folder.mkdir(parents=True)
    monkeypatch.setattr(config, "PROJECT", tmp_path)
    base = PROJECT / "config" / "pascal" / "base.yaml"

    def write(text: str) -> None:
        (folder / "pascal_ssl_resnet50.yaml").write_text(f"base: [{base}]\n{text}")

    return write
