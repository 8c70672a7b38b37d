"""The scores of single episodes as a table in a file, from which two methods are compared."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from engine.metrics import Areas, EpisodeScore
from util.errors import UserError
from util.files import write_text

SCORES = "episodes.csv"
_COLUMNS = ("class", "query", *Areas._fields)


def write_scores(folder: Path, scores: Iterable[EpisodeScore]) -> None:
    """Write ``episodes.csv`` atomically, a line for each episode in the order of the test."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((score.slot, score.query, *score.areas) for score in scores)
    write_text(folder / SCORES, text.getvalue())


def read_scores(folder: Path) -> list[EpisodeScore]:
    """Read what ``write_scores`` wrote; raises ``UserError`` for a missing file or one that is not such a table."""
    path = folder / SCORES
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream)
        if tuple(header) != _COLUMNS:
            raise ValueError
        return [EpisodeScore(int(row[0]), row[1], Areas(*map(int, row[2:]))) for row in rows]
    except FileNotFoundError:
        raise UserError(
            f"{path}: file not found; run bash test.sh first (again, if the test was run by an older version)"
        ) from None
    except (ValueError, TypeError, IndexError, csv.Error):
        raise UserError(f"{path}: not a table of scores ({', '.join(_COLUMNS)}); run bash test.sh again") from None
