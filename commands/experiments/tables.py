"""The comparison as files: a page of tables for people, and its numbers as CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from commands.experiments.comparison import Row, Score
from commands.experiments.methods import SHOTS
from commands.experiments.runs import Study
from engine.bootstrap import LEVEL
from util.files import write_json, write_text

_COLUMNS = ("method", "percent_of_labels", "shots", "fold", "seeds", *Score._fields)


def write_tables(study: Study, rows: Sequence[Row], base: Path) -> str:
    """Write ``base`` with the suffixes md, csv and json; returns the page."""
    page = markdown(study, rows)
    write_text(base.with_name(f"{base.name}.md"), page)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(_numbers(study, rows))
    write_text(base.with_name(f"{base.name}.csv"), text.getvalue())
    contents = {
        "dataset": study.dataset,
        "seeds": list(study.seeds),
        "words": list(study.words),
        "lists": {f"{percent:g}": str(path) for percent, path in study.lists.items()},
        "rows": [dict(zip(_COLUMNS, numbers, strict=True)) for numbers in _numbers(study, rows)],
    }
    write_json(base.with_name(f"{base.name}.json"), contents)
    return page


def markdown(study: Study, rows: Sequence[Row]) -> str:
    """A table for each number of shots."""
    seeds = ", ".join(map(str, study.seeds))
    folds = [f"fold {fold}" for fold in range(len(study.folds))]
    lines = [
        f"# {study.dataset} {study.folder.name.removeprefix(f'{study.dataset}_')}",
        "",
        "mIoU in percent on the classes that each fold holds back; of several seeds the mean ± the standard deviation.",
        f"The {LEVEL} % interval is that of the mean over the folds: other test images and, of several seeds, others.",
        f"Seeds of the trainings: {seeds}.",
    ]
    for shots in SHOTS:
        header = ["method", "labels used", *folds, "mean", f"{LEVEL} % interval", "FB-IoU"]
        lines += ["", f"## {shots} shot{'s' * (shots > 1)}", "", _line(header), _line(["---"] * len(header))]
        lines += [_line(_cells(study, row)) for row in rows if row.shots == shots]
    return "\n".join([*lines, ""])


def _cells(study: Study, row: Row) -> Iterator[str]:
    yield f"`{row.method.name}`: {row.method.title}"
    yield f"{row.method.percent:g} % of the images" if row.method.training else "none"
    for fold in range(len(study.folds)):
        yield _miou(row.folds.get(fold))
    yield _miou(row.mean)
    yield "" if row.mean is None else f"{row.mean.low:.1f} to {row.mean.high:.1f}"
    yield "" if row.mean is None else f"{row.mean.fb_iou:.1f}"


def _miou(score: Score | None) -> str:
    if score is None:
        return ""
    return f"{score.miou:.1f}" if score.deviation is None else f"{score.miou:.1f} ± {score.deviation:.1f}"


def _line(cells: Sequence[str] | Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _numbers(study: Study, rows: Sequence[Row]) -> Iterator[list[str | float | None]]:
    """A line for each fold and one for the mean of every row, by ``_COLUMNS``."""
    for row in rows:
        seeds = len(study.seeds) if row.method.is_trained else 1
        scores: dict[str, Score | None] = {**{str(fold): score for fold, score in row.folds.items()}, "mean": row.mean}
        for fold, score in scores.items():
            if score is not None:
                yield [row.method.name, row.method.percent, row.shots, fold, seeds, *score]
