"""What the tests of a comparison say together: means, intervals, and only what is finished and whole."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from commands.experiments.comparison import Row, compared
from commands.experiments.runs import Study
from engine.bootstrap import miou_interval
from engine.compare import compare, paired_test, read_method
from engine.metrics import EpisodeMetrics, EpisodeScore
from engine.seed_results import SEEDS
from tests.commands.experiments.small_study import study
from tests.engine.test_compare import run_folder, scores


def table(method: str, fold: int, seed: int) -> list[EpisodeScore]:
    """The scores of a test: of a method, a fold and a seed, each of which makes them better."""
    rows = scores({"nearest": 0, "unsupervised": 5}[method] + 2 * fold + 3 * seed, seed=fold)
    return [row._replace(query=f"{fold}_{row.query}") for row in rows]


@pytest.fixture
def tested(tmp_path: Path) -> Study:
    """Both methods with one shot on four folds, the second with two seeds; five shots on fold 0 only."""
    asked = study(tmp_path, "--only", "nearest,unsupervised", "--seeds", "1,2")
    nearest, unsupervised = asked.methods
    for fold in range(4):
        run_folder(asked.tests_of(nearest, fold, 1), table("nearest", fold, 0), split=fold)
        for seed in (1, 2):
            folder = asked.tests_of(unsupervised, fold, 1) / f"seed_{seed}"
            run_folder(folder, table("unsupervised", fold, seed), split=fold)
    run_folder(asked.tests_of(nearest, 0, 5), table("nearest", 0, 0), shots=5)
    return asked


def rows_of(asked: Study) -> list[Row]:
    return compared(asked, {str(path.parent.relative_to(asked.folder)) for path in asked.folder.rglob("results.json")})


def miou(rows: list[EpisodeScore]) -> float:
    return 100 * EpisodeMetrics(rows).miou()


def test_scores_of_folds_and_their_mean(tested: Study) -> None:
    nearest, unsupervised, five = rows_of(tested)
    assert [(row.method.name, row.shots) for row in (nearest, unsupervised, five)] == [
        ("nearest", 1),
        ("unsupervised", 1),
        ("nearest", 5),
    ]
    folds = [table("nearest", fold, 0) for fold in range(4)]
    assert [nearest.folds[fold].miou for fold in range(4)] == pytest.approx([miou(rows) for rows in folds])
    assert nearest.mean is not None and nearest.mean.miou == pytest.approx(statistics.fmean(map(miou, folds)))
    assert nearest.mean.deviation is None
    assert [nearest.folds[2].low, nearest.folds[2].high] == pytest.approx(miou_interval([folds[2]]))
    assert nearest.mean.fb_iou == pytest.approx(statistics.fmean(100 * EpisodeMetrics(rows).fb_iou() for rows in folds))
    assert (sorted(five.folds), five.mean) == ([0], None)


def test_seeds_are_averaged_and_widen_the_interval(tested: Study) -> None:
    unsupervised = rows_of(tested)[1].mean
    assert unsupervised is not None
    of_seed = [statistics.fmean(miou(table("unsupervised", fold, seed)) for fold in range(4)) for seed in (1, 2)]
    assert unsupervised.miou == pytest.approx(statistics.fmean(of_seed))
    assert unsupervised.deviation == pytest.approx(statistics.stdev(of_seed))
    assert unsupervised.low < min(of_seed) < max(of_seed) < unsupervised.high
    assert (tested.folder / "unsupervised" / "fold0_1shot" / SEEDS).is_file()


def test_folders_can_be_compared_with_each_other(tested: Study) -> None:
    rows = rows_of(tested)
    first, second = (read_method([tested.tests_of(row.method, fold, 1) for fold in range(4)]) for row in rows[:2])
    mean = compare([paired_test(*pair) for pair in zip(first, second, strict=True)])[-1]
    assert rows[0].mean is not None and rows[1].mean is not None
    assert (mean.first, mean.second) == pytest.approx((rows[0].mean.miou, rows[1].mean.miou))


def test_a_test_that_is_not_finished_does_not_count(tested: Study) -> None:
    """One seed is missing, or its results are of other settings."""
    names = {f"unsupervised/fold{fold}_1shot/seed_{seed}" for fold in range(4) for seed in (1, 2)}
    assert [row.mean is None for row in compared(tested, names)] == [False]
    (row,) = compared(tested, names - {"unsupervised/fold1_1shot/seed_2"})
    assert (sorted(row.folds), row.mean) == ([0, 2, 3], None)
    assert compared(tested, {"masks"}) == []
