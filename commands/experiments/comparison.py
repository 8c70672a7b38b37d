"""The tests of a comparison, read from their folders: a mean over the folds with its interval for every method."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from commands.experiments.methods import SHOTS, Method
from commands.experiments.runs import Study
from engine.bootstrap import Bootstrap, interval
from engine.metrics import EpisodeMetrics
from engine.seed_results import RepeatedTest, read_repeated_test, save_seed_results, seed_folder


class Score(NamedTuple):
    """mIoU and FB-IoU in percent, means over the seeds; ``deviation`` of the mIoU, None for one seed.

    ``low`` and ``high`` are the 95 % interval of the mIoU: other test images and, for several seeds, other seeds.
    """

    miou: float
    low: float
    high: float
    deviation: float | None
    fb_iou: float


class Row(NamedTuple):
    """A method with so many shots: the scores of the folds that are tested, and their mean where all are."""

    method: Method
    shots: int
    folds: dict[int, Score]
    mean: Score | None


def compared(study: Study, finished: Collection[str]) -> list[Row]:
    """The rows of all methods that have a finished test; writes ``seeds.json`` beside the tests of several seeds.

    A fold counts when all of its seeds are tested. Raises ``UserError`` for damaged results.
    """
    rows = []
    for shots in SHOTS:
        for method in study.methods:
            tests = {
                fold: test for fold in range(len(study.folds)) if (test := _test(study, finished, method, fold, shots))
            }
            if tests:
                folds = {fold: _score([test]) for fold, test in tests.items()}
                mean = _score(list(tests.values())) if len(tests) == len(study.folds) else None
                rows.append(Row(method, shots, folds, mean))
    return rows


def _test(study: Study, finished: Collection[str], method: Method, fold: int, shots: int) -> RepeatedTest | None:
    """The test of a method in a fold; None before it is finished."""
    folder = study.tests_of(method, fold, shots)
    name = folder.relative_to(study.folder)
    names = {str(seed_folder(name, seed)) for seed in study.seeds} if method.is_trained else {str(name)}
    if not names.issubset(finished):
        return None
    if method.is_trained:
        save_seed_results(folder, study.seeds)
    return read_repeated_test(folder)


def _score(tests: Sequence[RepeatedTest]) -> Score:
    """Of the mean over ``tests``, one for each fold."""
    bootstrap = Bootstrap(row.query for test in tests for row in test.tables[0])
    values = np.mean([bootstrap.mious(test.tables) for test in tests], axis=0)
    metrics = [[EpisodeMetrics(rows) for rows in seeds] for seeds in zip(*(test.tables for test in tests), strict=True)]
    mious = [100 * statistics.fmean(fold.miou() for fold in seed) for seed in metrics]
    return Score(
        statistics.fmean(mious),
        *interval(values),
        statistics.stdev(mious) if len(mious) > 1 else None,
        100 * statistics.fmean(fold.fb_iou() for seed in metrics for fold in seed),
    )
