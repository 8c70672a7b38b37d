"""The results of a test in which most images do not hold the object (docs/method.md, section 12.2)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from engine.bootstrap import LEVEL, Bootstrap, interval, mean_over_classes
from engine.metrics import EpisodeMetrics, EpisodeScore
from engine.results import RESULTS, Interval, Percent, ResultsPart, TestedAs
from engine.scores import PHOTOGRAPHS, read_photographs, write_photographs
from util.errors import UserError
from util.files import read_json, write_json
from util.settings import read_model

_AGAIN = "run bash test.sh with --every-photograph again"


class FolderClass(ResultsPart):
    """What ``read_folder_test`` reads of a class; tests by earlier versions have no threshold."""

    folder_iou: Percent | None
    threshold: float | None = None


class FolderResults(ResultsPart):
    """What ``engine.report`` and ``engine.compare`` read; ``per_class`` is by slot."""

    folder_iou: Percent
    folder_iou_interval: Interval
    folder_iou_ungated: Percent
    folder_iou_perfect_gate: Percent
    presence_auc: Percent | None
    presence_ap: Percent | None
    false_area: Percent | None
    per_class: dict[str, FolderClass] = Field(min_length=1)
    protocol: TestedAs


def build_folder_results(
    scores: Sequence[EpisodeScore], protocol: Mapping[str, Any], *, min_area: int, thresholds: Mapping[int, float]
) -> dict[str, Any]:
    """Means over classes in percent, the same for each class, and the protocol they were measured by.

    ``scores`` have a similarity; nothing stays marked in images with one up to that of their class in ``thresholds``.
    ``folder_iou`` is the IoU of all images together, ``folder_iou_ungated`` the same without a gate,
    ``folder_iou_perfect_gate`` where nothing is marked in images without the object. ``presence_auc`` and
    ``presence_ap`` tell how well the similarity separates images in which the class covers ``min_area`` pixels from
    those without it; images with less of it are in neither. ``false_area`` is the mean share that stays marked of an
    image without it. Intervals are over images. Each class has its ``threshold``, None where everything stays marked.

    A class for which a figure does not exist, because no image or every image holds it, is not in its mean; None where
    that is true of all.
    """
    bootstrap = Bootstrap(score.query for score in scores)
    gated = _gated(scores, thresholds)
    ious, ungated = bootstrap.ious([gated]), bootstrap.ious([scores])
    perfect = bootstrap.ious([[score if score.areas.true else _empty(score) for score in scores]])
    of_class = defaultdict[int, list[EpisodeScore]](list)
    for score in gated:
        of_class[score.slot].append(score)
    aucs = {slot: bootstrap.aucs(rows, min_area) for slot, rows in of_class.items()}
    per_class = {
        slot: {
            "folder_iou": ious[slot][0],
            "folder_iou_ungated": ungated[slot][0],
            "folder_iou_perfect_gate": perfect[slot][0],
            "presence_auc": aucs[slot][0],
            "presence_ap": _average_precision(rows, min_area),
            "false_area": _false_area(rows),
        }
        for slot, rows in sorted(of_class.items())
    }
    return {
        **{name: _mean([row[name] for row in per_class.values()]) for name in next(iter(per_class.values()))},
        "folder_iou_interval": _interval(ious),
        "presence_auc_interval": _interval(aucs),
        "per_class": {
            str(slot): {
                **{name: _mean([value]) for name, value in row.items()},
                "threshold": thresholds[slot] if math.isfinite(thresholds[slot]) else None,
            }
            for slot, row in per_class.items()
        },
        "protocol": dict(protocol),
    }


def save_folder_test(folder: Path, results: Mapping[str, Any], scores: Sequence[EpisodeScore]) -> None:
    """Write ``photographs.csv`` and, last, ``results.json``; the results of an earlier test go first."""
    (folder / RESULTS).unlink(missing_ok=True)
    write_photographs(folder, scores)
    write_json(folder / RESULTS, results)


def read_folder_results(folder: Path) -> FolderResults:
    """The results of such a test in a run folder. Raises ``UserError`` for a file that holds none."""
    return read_model(folder / RESULTS, FolderResults, "the results of a test of every photograph", _AGAIN)


def read_folder_test(folder: Path) -> tuple[FolderResults, list[EpisodeScore]]:
    """The results of such a test and the scores that they come from, empty where nothing stayed marked.

    Raises ``UserError`` where they do not fit.
    """
    results = read_folder_results(folder)
    thresholds = {
        int(slot): -math.inf if of_class.threshold is None else of_class.threshold
        for slot, of_class in results.per_class.items()
    }
    rows = read_photographs(folder)
    gated = _gated(rows, thresholds) if {row.slot for row in rows} == thresholds.keys() else []
    ious = EpisodeMetrics(gated).per_class()
    known = {slot: of_class.folder_iou for slot, of_class in results.per_class.items()}
    if not gated or not all(math.isclose(100 * ious[int(slot)], iou or 0) for slot, iou in known.items()):
        raise UserError(f"{folder}: {PHOTOGRAPHS} and {RESULTS} are of different tests; {_AGAIN}")
    return results, gated


def holds_folder_test(folder: Path) -> bool:
    """Whether the ``results.json`` of a run folder is that of such a test."""
    content = read_json(folder / RESULTS)
    return isinstance(content, dict) and "folder_iou" in content


def folder_table(results: Mapping[str, Any], seconds: float, names: Mapping[int, str]) -> str:
    """The results for the terminal: protocol, a line for each class (and its name), the means.

    ``seconds`` is the mean time of an episode.
    """
    lines = [f"{key:>16}  {value}" for key, value in results["protocol"].items()]
    lines.append(
        f"{'':>16}  {'IoU':>6}  {'no gate':>7}  {'perfect gate':>12}  {'AUC':>6}  {'AP':>6}  {'false area':>10}"
    )
    for number, row in results["per_class"].items():
        lines.append(f"{_line('class ' + number, row)}  {names.get(int(number), '')}".rstrip())
    lines.append(_line("mean", results))
    for name, key in (("IoU", "folder_iou"), ("AUC", "presence_auc")):
        if results[f"{key}_interval"] is not None:
            low, high = results[f"{key}_interval"]
            lines.append(f"{name:>16}  {LEVEL} % interval {low:.2f} to {high:.2f}, over test images")
    lines.append(f"{'inference':>16}  {seconds:6.3f} s for an episode, without reading its images")
    return "\n".join(lines)


def _line(name: str, row: Mapping[str, Any]) -> str:
    columns = {
        "folder_iou": 6, "folder_iou_ungated": 7, "folder_iou_perfect_gate": 12, "presence_auc": 6, "presence_ap": 6,
        "false_area": 10,
    }  # fmt: skip
    return "  ".join([f"{name:>16}", *(percent(row[key], width) for key, width in columns.items())])


def percent(value: float | None, width: int) -> str:
    """A figure for a table, a dash where there is none."""
    return f"{'-':>{width}}" if value is None else f"{value:{width}.2f}"


def _gated(scores: Sequence[EpisodeScore], thresholds: Mapping[int, float]) -> list[EpisodeScore]:
    """Empty up to the threshold of their class."""
    return [score if _similarity(score) > thresholds[score.slot] else _empty(score) for score in scores]


def _similarity(score: EpisodeScore) -> float:
    assert score.similarity is not None, "a folder test asks for similarities"
    return score.similarity


def _empty(score: EpisodeScore) -> EpisodeScore:
    """The score of an image in which nothing is marked."""
    return score._replace(areas=score.areas._replace(overlap=0, predicted=0))


def _average_precision(rows: Sequence[EpisodeScore], min_area: int) -> float:
    """In percent, NaN without an image of either kind."""
    from sklearn.metrics import average_precision_score  # a second to import, which engine.report need not wait for

    clear = [row for row in rows if row.areas.true == 0 or row.areas.true >= min_area]
    present = [row.areas.true > 0 for row in clear]
    if len({*present}) < 2:
        return float("nan")
    return 100 * float(average_precision_score(present, [row.similarity for row in clear]))


def _false_area(rows: Sequence[EpisodeScore]) -> float:
    """Mean share in percent that is marked of the images without the object, NaN where there are none."""
    shares = [row.areas.predicted / row.areas.pixels for row in rows if row.areas.true == 0]
    return 100 * float(np.mean(shares)) if shares else float("nan")


def _mean(values: Sequence[float]) -> float | None:
    """Of those that are not NaN."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else None


def _interval(of_class: Mapping[int, np.ndarray]) -> list[float] | None:
    """Of the mean over classes, from the values of all draws."""
    draws = mean_over_classes(of_class)
    return None if np.isnan(draws[1:]).all() else list(interval(draws))
