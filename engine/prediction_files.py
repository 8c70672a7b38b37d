"""Where predictions are written: no file of the user's is overwritten, and nothing is predicted twice."""

from __future__ import annotations

import csv
import io
import os
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from engine.annotation_forms import CocoPrediction, coco_content, run_lengths
from engine.prediction_forms import DEFAULT_FORMS, FORMS, files_of, path_of, write_files
from engine.prediction_pages import (
    INDEX,
    Shown,
    index_page,
    sheet_names,
    sorted_by_confidence,
    write_prediction_sheets,
    write_sheets,
)
from engine.predictions import Area, Prediction
from engine.supports import Support
from util.errors import UserError
from util.files import digest_file, write_json, write_text
from util.images.draw import outlined
from util.settings import read_model

_RECORD = "predictions.json"
_AREAS = "areas.csv"
_COCO = "predictions.coco.json"
_SHEET, _SUPPORTS = "sheet", "supports"
_SUPPORT_SIDE = 320
_SECONDS = 10.0  # of work that a killed command may lose
_EVERY_QUERY = "every query"
# Forms of which a person corrects files, to train on them.
_CORRECTABLE = ("mask", "labelme")


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
        self._forms: Collection[str] = ()
        self._settings = ""
        self._saved = 0.0  # when, on the monotonic clock

    def written(self) -> set[Path]:
        """The files of earlier predictions, resolved."""
        return {(self.folder / name).resolve() for name in self._record.queries}

    def reserve(
        self,
        names: Mapping[Path, str],
        inputs: Collection[Path],
        *,
        classes: Sequence[str],
        settings: str,
        forms: Collection[str] = DEFAULT_FORMS,
        supports: int = 0,
    ) -> dict[Path, str]:
        """Record the files of each query under its name, before any is written; returns what is to be predicted.

        A query is left out if its content was predicted with the same ``settings``, a digest, and its files in all
        ``forms`` are there. Files of what was predicted with others are removed. ``supports`` are to be shown. Raises
        ``UserError`` for a file that is there and is not an earlier prediction, or was corrected since, or is among the
        ``inputs``, and for two of one name.
        """
        self._classes, self._settings, self._forms = classes, settings, forms
        targets = {target: str(query) for query, name in names.items() for target in self._targets(name)}
        shared = [*self._shared({*self._current(), *names.values()}), *sheet_names(_SUPPORTS, supports)]
        times = Counter(target.casefold() for name in names.values() for target in self._targets(name))
        times.update(target.casefold() for target in (*shared, _RECORD))
        targets |= dict.fromkeys(shared, _EVERY_QUERY)
        read = {path.resolve() for path in inputs}
        for target in targets:
            path = self.folder / target
            if path.resolve() in read or (target not in self._record.queries and os.path.lexists(path)):
                raise UserError(f"{path}: would be overwritten and is no earlier prediction; choose another --output")
            if times[target.casefold()] > 1:
                raise UserError(f"{path}: would be written twice; give the classes or the queries other names")
        valid = {name for query, name in names.items() if self._is_valid(query, name)}
        missing = {query: name for query, name in names.items() if name not in valid or not self._is_complete(name)}
        self._check_unchanged(missing.values())
        self._remove_outdated({*missing.values()} - valid, targets)
        self._record.queries |= targets
        if missing:
            self._save()
        else:
            self._finish()
        return missing

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Around the writing of predictions: what is about all of them is written at the end, however it comes.

        The record and ``areas.csv`` also now and then.
        """
        try:
            yield
        finally:
            self._finish()

    def write(self, query: Path, name: str, prediction: Prediction) -> None:
        """Write the files of a prediction, and keep what those need that are about all queries."""
        content, files = digest_file(query), files_of(name, self._classes, self._forms)
        write_files(self.folder, files, query, prediction)
        height, width = prediction.mask.shape
        self._record.done[name] = _Done(
            query=str(query),
            content=content,
            settings=self._settings,
            areas=prediction.areas(),
            size=(height, width),
            run_lengths=run_lengths(prediction) if "coco" in self._forms else None,
            correctable={
                file.path: digest_file(self.folder / file.path) for file in files if file.form in _CORRECTABLE
            },
        )
        if time.monotonic() - self._saved > _SECONDS:
            self._save()

    def write_supports(self, supports: Mapping[str, Sequence[Support]]) -> None:
        """Write ``supports.jpg``: the supports of each class, and what was understood of their masks."""
        pictures, captions = [], []
        for number, (name, shots) in enumerate(supports.items(), start=1):
            for support in shots:
                pictures.append(outlined(support.image, np.where(support.mask == 1, number, support.mask)))
                captions.append([name, *support.described()])
        write_sheets(self.folder, _SUPPORTS, pictures, captions, _SUPPORT_SIDE)

    def _targets(self, name: str) -> list[str]:
        return [file.path for file in files_of(name, self._classes, self._forms)]

    def _shared(self, names: Collection[str]) -> list[str]:
        """The files about all queries, of these names."""
        files = [_AREAS]
        if "coco" in self._forms:
            files.append(_COCO)
        if "sheet" in self._forms:
            files += [INDEX, *sheet_names(_SHEET, len(names))]
        return files

    def _current(self) -> dict[str, _Done]:
        """What was predicted with these settings, in this run or before."""
        return {name: done for name, done in sorted(self._record.done.items()) if done.settings == self._settings}

    def _is_valid(self, query: Path, name: str) -> bool:
        """Whether the query was predicted with these settings and has the same content still."""
        done = self._record.done.get(name)
        return (
            done is not None
            and done.settings == self._settings
            and query.is_file()
            and done.content == digest_file(query)
        )

    def _is_complete(self, name: str) -> bool:
        """Whether what was predicted is there in all forms."""
        return all((self.folder / target).is_file() for target in self._targets(name)) and not (
            "coco" in self._forms and self._record.done[name].run_lengths is None
        )

    def _check_unchanged(self, names: Iterable[str]) -> None:
        """Raise ``UserError`` for a file of these queries that is not as it was written: corrections would be lost."""
        for name in names:
            done = self._record.done.get(name)
            for file, content in done.correctable.items() if done is not None else ():
                path = self.folder / file
                if path.is_file() and digest_file(path) != content:
                    raise UserError(
                        f"{path}: was changed after it was predicted; move it away or choose another --output"
                    )

    def _remove_outdated(self, names: Iterable[str], targets: Collection[str]) -> None:
        """Remove files that are not written again: of queries by their ``names``, and of settings that have changed."""
        outdated = []
        for name in names:
            done = self._record.done.pop(name, None)
            if done is not None:
                outdated += [file.path for file in files_of(name, done.areas, FORMS)]
        if self._record.settings != self._settings:
            outdated += [file for file, query in self._record.queries.items() if query == _EVERY_QUERY]
        for file in set(outdated) - set(targets):
            if self._record.queries.pop(file, None) is not None:
                (self.folder / file).unlink(missing_ok=True)
        self._record.settings = self._settings

    def _save(self) -> None:
        write_json(self._path, self._record.model_dump())
        write_text(self.folder / _AREAS, self._table())
        self._saved = time.monotonic()

    def _finish(self) -> None:
        """Write the record and all that is about every query."""
        self._save()
        current = self._current()
        if "coco" in self._forms:
            predictions = [
                CocoPrediction(_file_name(name, done.query), done.size, done.areas, done.run_lengths)
                for name, done in current.items()
                if done.run_lengths is not None
            ]
            write_json(self.folder / _COCO, coco_content(predictions, self._classes))
        if "sheet" in self._forms:
            shown = [Shown(name, done.query, done.areas) for name, done in current.items()]
            shown = sorted_by_confidence(
                [each for each in shown if (self.folder / path_of(each.name, "sheet")).is_file()]
            )
            write_text(self.folder / INDEX, index_page(self.folder, shown, self._classes))
            write_prediction_sheets(self.folder, _SHEET, shown)

    def _table(self) -> str:
        """A row for each class of each query that was predicted with these settings."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("query", "class", *Area._fields))
        for done in self._current().values():
            writer.writerows((done.query, name, *map(_rounded, area)) for name, area in done.areas.items())
        return text.getvalue().encode(errors="backslashreplace").decode()  # names of files need not be text


def _file_name(name: str, query: str) -> str:
    """The end of a query's path by which COCO's JSON calls it: as much of it as its name has."""
    suffix = Path(query).suffix
    file_name = name if name.endswith(suffix) else f"{name}{suffix}"
    return file_name if Path(query).as_posix().endswith(file_name) else Path(query).as_posix()


class _Done(BaseModel):
    """A prediction that is complete: digests of its query and of what it was made with.

    ``size`` is (height, width); ``run_lengths`` of each class that is marked are there where COCO's JSON was asked for;
    ``correctable`` are digests of the files that people correct.
    """

    query: str
    content: str
    settings: str
    areas: dict[str, Area]
    size: tuple[int, int] = (0, 0)
    run_lengths: dict[str, str] | None = None
    correctable: dict[str, str] = {}


class _Record(BaseModel):
    """``predictions.json``: the query of each file, by the names of the files what was predicted, the last settings."""

    queries: dict[str, str]
    done: dict[str, _Done] = {}
    settings: str = ""


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if isinstance(value, float) else value
