"""Where predictions are written: names that keep queries apart, and no file of the user's overwritten."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from util.errors import UserError
from util.files import read_json, write_json
from util.images import write_image, write_label
from util.images.draw import overlay

_RECORD = "predictions.json"
_MASK, _PROBABILITY, _OVERLAY = _ENDINGS = ("_mask.png", "_probability.png", "_overlay.jpg")


class PredictionFolder:
    """The output folder; ``predictions.json`` in it names the query of each file that was written there.

    Raises ``UserError`` if something else has the folder's place.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--output {folder}: not a folder; choose another place")
        self.folder = folder
        self._record = folder / _RECORD
        self._queries = self._read_record()

    def written(self) -> set[Path]:
        """The files of earlier predictions, resolved."""
        return {(self.folder / name).resolve() for name in self._queries}

    def reserve(self, names: Mapping[Path, str], inputs: Collection[Path]) -> None:
        """Record the files of each query under its name, before any is written.

        Raises ``UserError`` for a file that is there and is not an earlier prediction, or is among the ``inputs``.
        """
        targets = {f"{name}{ending}": query for query, name in names.items() for ending in _ENDINGS}
        read = {path.resolve() for path in inputs}
        for target in targets:
            path = self.folder / target
            if path.resolve() in read or (target not in self._queries and os.path.lexists(path)):
                raise UserError(f"{path}: would be overwritten and is no earlier prediction; choose another --output")
        self._queries |= {target: str(query) for target, query in targets.items()}
        write_json(self._record, {"queries": self._queries})

    def write(self, name: str, image: np.ndarray, mask: np.ndarray, probability: np.ndarray) -> None:
        """Write three files of the query's size: ``mask`` (H, W) uint8 0/1, ``probability`` (H, W) 0..1, an overlay."""
        write_label(self.folder / f"{name}{_MASK}", mask)
        grey = np.rint(255 * probability).astype(np.uint8)
        write_image(self.folder / f"{name}{_PROBABILITY}", np.stack([grey] * 3, axis=2))
        write_image(self.folder / f"{name}{_OVERLAY}", overlay(image, mask))

    def _read_record(self) -> dict[str, str]:
        content = read_json(self._record) if self._record.exists() else {"queries": {}}
        if not isinstance(content, dict) or not isinstance(content.get("queries"), dict):
            raise UserError(f"{self._record}: not the file that predict.py writes; choose another --output")
        return content["queries"]


def output_names(queries: Sequence[Path]) -> dict[Path, str]:
    """A name for each query, without suffix; no two differ only in case, which some disks ignore.

    It is the stem. Where that is not enough it keeps the suffix, or as many of the folders above as are needed.
    """
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in queries:
        groups[path.stem.casefold()].append(path)
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for group in groups.values():
        for path, name in zip(group, _distinct(group), strict=True):
            numbered, number = name, 1
            while numbered.casefold() in taken:
                number += 1
                numbered = f"{name}_{number}"
            taken.add(numbered.casefold())
            names[path] = numbered
    return {path: names[path] for path in queries}


def _distinct(paths: Sequence[Path]) -> list[str]:
    """Names from as little of the paths as tells them apart; their stems if nothing does."""
    full = [Path(os.path.abspath(path)) for path in paths]
    for depth in range(1, max(len(path.parts) for path in full)):
        ends = [Path(*path.parts[1:][-depth:]) for path in full]
        for names in ([end.with_suffix("").as_posix() for end in ends], [end.as_posix() for end in ends]):
            if len({name.casefold() for name in names}) == len(names):
                return names
    return [path.stem for path in full]
