"""The files under version control, for the tests that read the project itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from util.files import PROJECT


def tracked_files(*suffixes: str) -> list[Path]:
    """Files under version control that exist, sorted; those with one of the ``suffixes`` if any is given.

    Skips the test where the project is not a git checkout.
    """
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listing = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if listing.returncode or not listing.stdout:
        pytest.skip("the project is not a git checkout")
    files = sorted(PROJECT / name for name in listing.stdout.split("\0") if name)
    return [file for file in files if file.is_file() and (not suffixes or file.suffix in suffixes)]


def relative(path: Path) -> str:
    """``path`` from the project's folder on, for messages."""
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else path.as_posix()
