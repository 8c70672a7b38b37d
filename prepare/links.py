"""Files of a dataset that stay where they are: links to them, copies where links fail."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from util.errors import UserError
from util.files import atomic_write


def link_all(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Make the second path of each pair a link to the first, where it is not that file or a copy of it already.

    A link to something else is replaced. Raises ``UserError``, before anything is written, where there is a file
    with other content.
    """
    missing = [(source, target) for source, target in pairs if not _is_there(source, target)]
    for source, target in missing:
        if target.exists() and not target.is_symlink():
            raise UserError(f"{target}: holds something else than {source}; remove it or choose another --root")
    if missing:
        for source, target in tqdm(missing, desc="links", unit="file"):
            _link(source, target)


def _is_there(source: Path, target: Path) -> bool:
    if not target.is_file():
        return False
    return os.path.samefile(source, target) or (not target.is_symlink() and filecmp.cmp(source, target))


def _link(source: Path, target: Path) -> None:
    with atomic_write(target) as temporary:
        try:
            temporary.symlink_to(source.resolve())
        except (OSError, NotImplementedError):
            shutil.copy2(source, temporary)
