"""What the tests of the check share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prepare.__main__ import main
from tests.prepare.small_dataset import Outcome, words, write_dataset


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
            main(words(data, *options, **keywords))
        except SystemExit as end:
            code = int(end.code or 0)
        return Outcome(capfd.readouterr().out, code)

    return run
