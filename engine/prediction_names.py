"""Names for the files of predictions, which keep queries of one name apart."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path


def output_names(queries: Mapping[Path, Path]) -> dict[Path, str]:
    """A name for each query, without suffix; no two differ only in case, which some disks ignore.

    ``queries`` has for each the end of its path that the name keeps. Where that is not enough it also keeps the suffix,
    or as many of the folders above as are needed.
    """
    groups: dict[str, list[Path]] = defaultdict(list)
    for path, kept in queries.items():
        groups[kept.with_suffix("").as_posix().casefold()].append(path)
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for group in groups.values():
        for path, name in zip(group, _distinct(group, len(queries[group[0]].parts)), strict=True):
            numbered, number = name, 1
            while numbered.casefold() in taken:
                number += 1
                numbered = f"{name}_{number}"
            taken.add(numbered.casefold())
            names[path] = numbered
    return {path: names[path] for path in queries}


def _distinct(paths: Sequence[Path], least: int) -> list[str]:
    """Names from as little of the paths as tells them apart, ``least`` parts or more; that many if nothing does."""
    full = [Path(os.path.abspath(path)) for path in paths]
    for depth in range(least, max(len(path.parts) for path in full)):
        ends = [Path(*path.parts[1:][-depth:]) for path in full]
        for names in ([end.with_suffix("").as_posix() for end in ends], [end.as_posix() for end in ends]):
            if len({name.casefold() for name in names}) == len(names):
                return names
    return [Path(*path.parts[-least:]).with_suffix("").as_posix() for path in full]
