"""The results of a test with the protocol that they were measured by: made, written, read and checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from engine.bootstrap import miou_interval
from engine.metrics import EpisodeMetrics, EpisodeScore
from engine.scores import SCORES, read_scores, write_scores
from util.errors import UserError
from util.files import write_json
from util.settings import read_model

if TYPE_CHECKING:
    from engine.gallery import Gallery

RESULTS = "results.json"
_AGAIN = "run bash test.sh again"

Percent = Annotated[float, Field(ge=0, le=100)]
Interval = Annotated[list[Percent], Field(min_length=2, max_length=2)]


class ResultsPart(BaseModel):
    """A part of what a test wrote, which is read strictly."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class TestedAs(ResultsPart):
    """What ``engine.report`` and ``engine.compare`` read of a protocol."""

    method: str
    dataset: str
    val_list: str
    split: int = Field(ge=0, le=5)
    shots: int = Field(ge=1)
    episodes: int = Field(ge=1)
    seed: int
    min_area: int = Field(ge=1)
    compat: str
    label_use: str


class Results(ResultsPart):
    """What they read of the results; ``per_class`` is by slot, tests by earlier versions have no interval."""

    miou: Percent
    miou_interval: Interval | None = None
    fb_iou: Percent
    per_class: dict[str, Percent] = Field(min_length=1)
    protocol: TestedAs


def build_results(metrics: EpisodeMetrics, protocol: dict[str, Any], classes: list[int]) -> dict[str, Any]:
    """IoUs, accuracies and shares of pixels in percent, and the protocol they were measured by.

    ``miou_interval`` is the 95 % interval of the mIoU: how far other test images could have moved it.
    ``classes`` are those tested; a class that no episode drew has no IoU, is left out of the mean and is listed.
    """
    total = metrics.total()
    per_class = _percent(metrics.per_class())
    miou = 100 * metrics.miou()
    return {
        "miou": miou,
        "miou_interval": miou_interval([metrics.scores]),
        "fb_iou": 100 * metrics.fb_iou(),
        "accuracy": 100 * total.accuracy,
        "per_class": per_class,
        "per_class_accuracy": _percent(metrics.per_class_accuracy()),
        "classes_never_drawn": [number for number in classes if str(number) not in per_class],
        "predicted_object": 100 * total.predicted / total.pixels,
        "true_object": 100 * total.true / total.pixels,
        "empty_predictions": metrics.empty_predictions,
        "protocol": {**protocol, "mean_over": _mean_over(len(per_class), len(classes), miou)},
    }


def save_test(folder: Path, results: dict[str, Any], scores: Sequence[EpisodeScore], gallery: Gallery) -> None:
    """Write the pictures, ``episodes.csv`` and, last, ``results.json``.

    The results of an earlier test go first: a test that is killed in between leaves none, never two halves.
    """
    (folder / RESULTS).unlink(missing_ok=True)
    gallery.save(folder)
    write_scores(folder, scores)
    write_json(folder / RESULTS, results)


def read_results(folder: Path) -> Results:
    """The results of the test in a run folder. Raises ``UserError`` for a file that is missing or holds none."""
    return read_model(folder / RESULTS, Results, "the results of a test", _AGAIN)


def read_test(folder: Path) -> tuple[Results, list[EpisodeScore]]:
    """The results of a test and the scores that they come from. Raises ``UserError`` where they do not fit."""
    results, scores = read_results(folder), read_scores(folder)
    ious = _percent(EpisodeMetrics(scores).per_class())
    same_classes = ious.keys() == results.per_class.keys()
    if not same_classes or not all(math.isclose(ious[slot], iou) for slot, iou in results.per_class.items()):
        raise UserError(f"{folder}: {SCORES} and {RESULTS} are of different tests; {_AGAIN}")
    return results, scores


def _percent(shares: dict[int, float]) -> dict[str, float]:
    return {str(slot): 100 * share for slot, share in shares.items()}


def _mean_over(drawn: int, tested: int, miou: float) -> str:
    """Which classes the mIoU is a mean over; code of others may count those that no episode drew."""
    if drawn == tested:
        return f"all {tested} classes"
    return f"the {drawn} of {tested} classes that were drawn; {miou * drawn / tested:.2f} where the others count as 0"
