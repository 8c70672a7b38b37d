"""Files of a dataset: which are complete, and links to those that stay in place (copies where links fail)."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from util.errors import UserError
from util.files import link_or_copy

_PNG_END = b"IEND\xaeB`\x82"


def is_made(path: Path) -> bool:
    """Whether an image or label exists and is complete; after a power cut, a file may exist but be empty."""
    if not path.is_file():
        return False
    if path.suffix != ".png":
        return path.stat().st_size > 0
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - len(_PNG_END)))
        return stream.read() == _PNG_END


def link_all(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Make the second path of each (source, target) a link to the first, unless it is that file or a copy of it.

    A link to something else is replaced. Raises ``UserError``, before anything is written, if a target is a file with
    other content.
    """
    missing = [(source, target) for source, target in pairs if not _holds(target, source)]
    for source, target in missing:
        if target.exists() and not target.is_symlink():
            raise UserError(f"{target}: holds something other than {source}; remove it or choose another --root")
    if missing:
        for source, target in tqdm(missing, desc="links", unit="file"):
            link_or_copy(source, target)


def _holds(target: Path, source: Path) -> bool:
    if not target.is_file():
        return False
    return os.path.samefile(source, target) or (not target.is_symlink() and filecmp.cmp(source, target))
