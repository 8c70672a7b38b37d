"""Names of classes: ``classes.txt`` in a dataset's folder, line 1 the name of class 1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from util.errors import UserError
from util.files import read_lines, write_text

_FILE = "classes.txt"
_MOST_CLASSES = 254  # 0 is background, 255 not labelled


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names in a text file, one a line; blank lines are left out.

    Raises ``UserError`` for a missing file, one that is no text, and for names that ``checked_names`` refuses.
    """
    lines = read_lines(path, "expected the name of a class on each line")
    return checked_names([line for line in lines if line.strip()], path)


def checked_names(names: Iterable[str], source: Path) -> tuple[str, ...]:
    """The names, their blanks made single; ``UserError`` for none, more than 254, an empty one or one given twice."""
    found = tuple(" ".join(name.split()) for name in names)
    if not found:
        raise UserError(f"{source}: no class in it; expected 1 to {_MOST_CLASSES}")
    if len(found) > _MOST_CLASSES:
        raise UserError(f"{source}: {len(found)} classes; masks have room for {_MOST_CLASSES}")
    for row, name in enumerate(found):
        if not name:
            raise UserError(f"{source}: class {row + 1} has no name")
        if name in found[:row]:
            raise UserError(f"{source}: classes {found.index(name) + 1} and {row + 1} are both called '{name}'")
    return found


def write_dataset_names(root: Path, names: Sequence[str]) -> None:
    """Write ``classes.txt`` into the dataset's folder, atomically."""
    write_text(root / _FILE, "".join(f"{name}\n" for name in names))


def dataset_names(root: Path) -> dict[int, str]:
    """The name of each class of the dataset in this folder; empty where nobody named them."""
    path = root / _FILE
    return dict(enumerate(read_class_names(path), start=1)) if path.is_file() else {}
