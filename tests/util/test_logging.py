"""The log of a run."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from util.logging import logger, start_logging


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_an_error_that_names_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """And no traceback with every line."""
    start_logging(Path("/dev/full"))
    try:
        with pytest.raises(OSError, match="No space left on device") as full:
            logger.info("a line")
    finally:
        start_logging()
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, "/dev/full")
    assert "Traceback" not in capsys.readouterr().err
