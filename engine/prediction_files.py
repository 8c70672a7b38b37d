"""Where predictions are written: names that keep queries apart, and no file of the user's overwritten."""

from __future__ import annotations

import csv
import io
import os
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from engine.predictions import Area, Prediction
from util.errors import UserError
from util.files import digest_file, write_json, write_text
from util.images import write_image, write_label
from util.settings import read_model

_RECORD = "predictions.json"
_AREAS = "areas.csv"
_MASK, _PROBABILITY, _OVERLAY = "_mask.png", "_probability", "_overlay.jpg"
_SECONDS = 10.0  # of work that a killed command may lose


class PredictionFolder:
    """The output folder; ``predictions.json`` in it names the query of each file that was written there.

    It also holds what each query was predicted with, so that nothing is predicted twice, and how large the areas are.
    Raises ``UserError`` if something else has the folder's place.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--output {folder}: not a folder; choose another place")
        self.folder = folder
        self._path = folder / _RECORD
        self._record = _Record(queries={})
        if self._path.exists():
            self._record = read_model(self._path, _Record, "the file that predict.py writes", "choose another --output")
        self._classes: Sequence[str] = ()
        self._settings = ""
        self._saved = 0.0  # when, on the monotonic clock

    def written(self) -> set[Path]:
        """The files of earlier predictions, resolved."""
        return {(self.folder / name).resolve() for name in self._record.queries}

    def reserve(
        self, names: Mapping[Path, str], inputs: Collection[Path], *, classes: Sequence[str], settings: str
    ) -> dict[Path, str]:
        """Record the files of each query under its name, before any is written; returns what is to be predicted.

        A query is left out if its content was predicted with the same ``settings``, a digest, and its files are there.
        Raises ``UserError`` for a file that is there and is not an earlier prediction, or is among the ``inputs``, and
        for two of one name.
        """
        self._classes, self._settings = classes, settings
        targets = {target: str(query) for query, name in names.items() for target in self._targets(name)}
        targets |= {_AREAS: "every query"}
        read = {path.resolve() for path in inputs}
        times = Counter(target.casefold() for name in names.values() for target in self._targets(name))
        for target in targets:
            path = self.folder / target
            if path.resolve() in read or (target not in self._record.queries and os.path.lexists(path)):
                raise UserError(f"{path}: would be overwritten and is no earlier prediction; choose another --output")
            if times[target.casefold()] > 1:
                raise UserError(f"{path}: would be written twice; give the classes other names")
        missing = {query: name for query, name in names.items() if not self._is_done(query, name)}
        for name in missing.values():
            self._record.done.pop(name, None)
        self._record.queries |= targets
        self._save()
        return missing

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Around the writing of predictions: the record and ``areas.csv`` are written now and then, and at the end."""
        try:
            yield
        finally:
            self._save()

    def write(self, query: Path, name: str, prediction: Prediction) -> None:
        """Write the files of a prediction, all of the query's size: the mask, a map for each class, an overlay."""
        content = digest_file(query)
        mask, *maps, overlay = (self.folder / target for target in self._targets(name))
        write_label(mask, prediction.mask)
        for path, probability in zip(maps, prediction.probabilities.values(), strict=True):
            grey = np.rint(255 * probability).astype(np.uint8)
            write_image(path, np.stack([grey] * 3, axis=2))
        write_image(overlay, prediction.overlay())
        self._record.done[name] = _Done(
            query=str(query), content=content, settings=self._settings, areas=prediction.areas()
        )
        if time.monotonic() - self._saved > _SECONDS:
            self._save()

    def _targets(self, name: str) -> list[str]:
        """The files of a query; with several classes each has a map, which is called after it."""
        endings = [""] if len(self._classes) == 1 else [f"_{each}" for each in self._classes]
        return [f"{name}{_MASK}", *(f"{name}{_PROBABILITY}{ending}.png" for ending in endings), f"{name}{_OVERLAY}"]

    def _is_done(self, query: Path, name: str) -> bool:
        done = self._record.done.get(name)
        return (
            done is not None
            and done.settings == self._settings
            and all((self.folder / target).is_file() for target in self._targets(name))
            and query.is_file()
            and done.content == digest_file(query)
        )

    def _save(self) -> None:
        write_json(self._path, self._record.model_dump())
        write_text(self.folder / _AREAS, self._table())
        self._saved = time.monotonic()

    def _table(self) -> str:
        """A row for each class of each query that was predicted with these settings, in this run or before."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("query", "class", *Area._fields))
        for _, done in sorted(self._record.done.items()):
            if done.settings == self._settings:
                writer.writerows((done.query, name, *map(_rounded, area)) for name, area in done.areas.items())
        return text.getvalue().encode(errors="backslashreplace").decode()  # names of files need not be text


class _Done(BaseModel):
    """A prediction that is complete: digests of its query and of what it was made with."""

    query: str
    content: str
    settings: str
    areas: dict[str, Area]


class _Record(BaseModel):
    """``predictions.json``: the query of each file, and by the names of the files what was predicted."""

    queries: dict[str, str]
    done: dict[str, _Done] = {}


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if isinstance(value, float) else value


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
