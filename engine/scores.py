"""The scores of single episodes as a table in a file, from which two methods are compared."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from engine.metrics import Areas, EpisodeScore
from util.errors import UserError
from util.files import write_text

SCORES = "episodes.csv"
PHOTOGRAPHS = "photographs.csv"
_COLUMNS = ("class", "query", *Areas._fields)
_PHOTOGRAPH_COLUMNS = ("class", "query", "similarity", *Areas._fields)
_COUNT = re.compile(r"[0-9]{1,12}")
_NUMBER = re.compile(r"-?[0-9]{1,4}(\.[0-9]{1,20})?(e-?[0-9]{1,3})?")
_AGAIN = "run bash test.sh again"


def write_scores(folder: Path, scores: Iterable[EpisodeScore]) -> None:
    """Write ``episodes.csv`` atomically, a line for each episode in the order of the test."""
    _write_rows(folder / SCORES, _COLUMNS, ((score.slot, score.query, *score.areas) for score in scores))


def write_photographs(folder: Path, scores: Iterable[EpisodeScore]) -> None:
    """Write ``photographs.csv`` atomically: the same, with the similarity of query and supports."""
    rows = ((score.slot, score.query, score.similarity, *score.areas) for score in scores)
    _write_rows(folder / PHOTOGRAPHS, _PHOTOGRAPH_COLUMNS, rows)


def read_scores(folder: Path) -> list[EpisodeScore]:
    """Read what ``write_scores`` wrote. Raises ``UserError`` for a missing file and one that names a wrong line."""
    return _read_rows(folder / SCORES, _COLUMNS)


def read_photographs(folder: Path) -> list[EpisodeScore]:
    """Read what ``write_photographs`` wrote. Raises ``UserError`` as ``read_scores``."""
    return _read_rows(folder / PHOTOGRAPHS, _PHOTOGRAPH_COLUMNS)


def _write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _read_rows(path: Path, columns: Sequence[str]) -> list[EpisodeScore]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream)
    except FileNotFoundError:
        raise UserError(
            f"{path}: file not found; run bash test.sh first (again, if the test was run by an older version)"
        ) from None
    except (ValueError, csv.Error):  # an empty file, or not text
        header, rows = [], []
    if tuple(header) != columns or not rows:
        raise UserError(f"{path}: not a table of scores ({', '.join(columns)}); {_AGAIN}")
    return [_read_row(row, columns, f"{path}, line {number}") for number, row in enumerate(rows, start=2)]


def _read_row(row: list[str], columns: Sequence[str], place: str) -> EpisodeScore:
    values = dict(zip(columns, row, strict=False))
    query = values.pop("query", "")
    similarity = values.pop("similarity", None)
    is_number = similarity is None or _NUMBER.fullmatch(similarity)
    if len(row) != len(columns) or not all(map(_COUNT.fullmatch, values.values())) or not is_number:
        raise UserError(f"{place}: expected {', '.join(columns)}, numbers but for the query; {_AGAIN}")
    slot, *pixels = map(int, values.values())
    areas = Areas(*pixels)
    # Only where every photograph is a query, there are some without the object.
    needs_object = similarity is None
    impossible = areas.overlap > min(areas.predicted, areas.true) or areas.union > areas.pixels
    if impossible or (needs_object and areas.true == 0):
        raise UserError(f"{place}: areas that no prediction has ({areas}); {_AGAIN}")
    return EpisodeScore(slot, query, areas, None if similarity is None else float(similarity))
