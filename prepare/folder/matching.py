"""Which mask belongs to which image, by name."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path


def match_names(wanted: Collection[Path], files: Mapping[Path, Path]) -> dict[Path, Path]:
    """The file for each ``wanted`` name that has one; ``files`` maps names to files.

    Names that are written alike match first, then those alike with composed letters (macOS writes a letter and its
    accent apart), then those that differ only in upper and lower case; each as far as only one name is meant.
    """
    matches: dict[Path, Path] = {}
    for spelling in (Path.as_posix, _composed, _caseless):
        used = set(matches.values())
        names = _single([name for name in wanted if name not in matches], spelling)
        found = _single([name for name, file in files.items() if file not in used], spelling)
        matches |= {name: files[found[spelt]] for spelt, name in names.items() if spelt in found}
    return matches


def _single(names: Collection[Path], spelling: Callable[[Path], str]) -> dict[str, Path]:
    """The names that no other is spelt like."""
    counts = Counter(map(spelling, names))
    return {spelling(name): name for name in names if counts[spelling(name)] == 1}


def _composed(name: Path) -> str:
    return unicodedata.normalize("NFC", name.as_posix())


def _caseless(name: Path) -> str:
    return _composed(name).casefold()
