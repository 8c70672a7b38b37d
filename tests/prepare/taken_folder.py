"""A folder in which another process is at work."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from util.errors import UserError


def taken(folder: Path) -> NoReturn:
    """In the place of ``only_process_in``."""
    raise UserError(f"{folder}: taken")
