"""Names of classes: ``classes.txt`` in a dataset's folder, whose first line is the name of class 1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from util.errors import UserError, shown
from util.files import read_lines, write_text
from util.images import MAX_CLASSES

_FILE = "classes.txt"
# JSON can hold a surrogate without the other, text in UTF-8 cannot.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names in a text file, one per line; blank lines are left out.

    Raises ``UserError`` for a missing file, one that is not text, and names that ``checked_names`` refuses.
    """
    lines = read_lines(path, "expected the name of a class on each line")
    return checked_names([line for line in lines if line.strip()], path)


def checked_names(names: Iterable[str], source: Path) -> tuple[str, ...]:
    """The names with single spaces; ``source`` is the file that errors name.

    Raises ``UserError`` for no name, for more than 254, for an empty one, for one that occurs twice and for one that no
    file can hold.
    """
    checked = tuple(" ".join(name.split()) for name in names)
    if not checked:
        raise UserError(f"{source}: no class in it; expected 1 to {MAX_CLASSES}")
    if len(checked) > MAX_CLASSES:
        raise UserError(f"{source}: {len(checked)} classes; masks have room for {MAX_CLASSES}")
    for row, name in enumerate(checked):
        if not name:
            raise UserError(f"{source}: class {row + 1} has no name")
        if name in checked[:row]:
            raise UserError(f"{source}: classes {checked.index(name) + 1} and {row + 1} are both called {shown(name)}")
        if _HALF_CHARACTER.search(name):
            raise UserError(f"{source}: class {row + 1}, {shown(name)}, is not text that can be written; rename it")
    return checked


def write_dataset_names(root: Path, names: Sequence[str]) -> None:
    """Write ``classes.txt`` into the dataset's folder, atomically."""
    write_text(root / _FILE, "".join(f"{name}\n" for name in names))


def dataset_names(root: Path) -> dict[int, str]:
    """The name of each class of the dataset in this folder; empty if it has no ``classes.txt``."""
    path = root / _FILE
    return dict(enumerate(read_class_names(path), start=1)) if path.is_file() else {}
