"""Paired differences: the figures of the tests themselves, intervals that know what is shared, refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.compare import PairedTest, compare, compare_classes, main, paired_test, read_method
from engine.gallery import Gallery
from engine.metrics import Areas, EpisodeMetrics, EpisodeScore
from engine.results import build_results, save_test
from engine.seed_results import read_repeated_test, save_seed_results, seed_folder
from util.errors import UserError

PROTOCOL = {
    "dataset": "pascal", "val_list": "val.txt", "split": 0, "shots": 1, "episodes": 40, "seed": 123, "min_area": 9,
    "compat": "ours", "method": "network", "label_use": "none",
}  # fmt: skip


def scores(shift: int, *, seed: int = 0, episodes: int = 40) -> list[EpisodeScore]:
    """Of classes 1 and 2 in turn; the overlap is random but for ``shift``, the same for equal seeds."""
    overlaps = np.random.default_rng(seed).integers(20, 60, size=episodes)
    return [
        EpisodeScore(1 + i % 2, f"{i // 3}.jpg", Areas(int(overlap) + shift, 100, 100, 400))
        for i, overlap in enumerate(overlaps)
    ]


def run_folder(folder: Path, rows: list[EpisodeScore], **protocol: Any) -> Path:
    results = build_results(EpisodeMetrics(rows), {**PROTOCOL, **protocol}, [1, 2])
    save_test(folder, results, rows, Gallery(0, 1, lambda row: np.zeros((1, 1, 3), np.uint8)))
    return folder


def paired(first: list[EpisodeScore], second: list[EpisodeScore], *, fold: int = 0) -> PairedTest:
    """Two methods of one seed each."""
    return PairedTest(f"fold {fold}", [first], [second])


def test_mious_are_those_of_the_tests_and_the_mean_is_over_folds() -> None:
    tests = [paired(scores(5), scores(0)), paired(scores(2, seed=1), scores(0, seed=1), fold=1)]
    fold_0, fold_1, mean = compare(tests, draws=200)
    assert fold_0.first == pytest.approx(100 * EpisodeMetrics(scores(5)).miou())
    assert fold_0.second == pytest.approx(100 * EpisodeMetrics(scores(0)).miou())
    assert mean.difference == pytest.approx((fold_0.difference + fold_1.difference) / 2)
    for value in (fold_0, fold_1, mean):
        assert value.low < value.difference < value.high


def test_a_constant_gain_is_sure_and_noise_is_not() -> None:
    sure = compare([paired(scores(5), scores(0))])[0]
    assert 0 < sure.low
    assert sure.high - sure.low < 0.5  # episodes differ by tens of points, the gain does not
    unsure = compare([paired(scores(0, seed=3), scores(0, seed=4))])[0]
    assert unsure.low < 0 < unsure.high


def test_the_interval_is_as_wide_as_other_images_make_it() -> None:
    """Against the spread of the difference over fresh images, which it estimates."""

    def independent(seed: int) -> PairedTest:
        rng = np.random.default_rng(seed)
        first, second = rng.integers(20, 60, size=(2, 200))
        return paired(*(
            [EpisodeScore(1, f"{i}.jpg", Areas(int(overlap), 100, 100, 400)) for i, overlap in enumerate(overlaps)]
            for overlaps in (first, second)
        ))  # fmt: skip

    value = compare([independent(0)])[0]
    spread = np.std([compare([independent(seed)], draws=1)[0].difference for seed in range(1, 200)])
    assert value.high - value.low == pytest.approx(2 * 1.96 * spread, rel=0.25)


def test_episodes_of_one_image_are_drawn_together() -> None:
    """Twice the same episodes are no more evidence than once."""
    rows = [scores(0, seed=3), scores(0, seed=4)]
    once = compare([paired(*rows)])[0]
    twice = compare([paired(*(row * 2 for row in rows))])[0]
    assert twice == pytest.approx(once)


def test_classes_are_compared_one_by_one() -> None:
    """Class 1 gains, class 2 loses; those of a second fold stand beside them."""
    gains = [
        row._replace(areas=row.areas._replace(overlap=row.areas.overlap + (5 if row.slot == 1 else -5)))
        for row in scores(0)
    ]
    other = [[row._replace(slot=row.slot + 2) for row in scores(shift, seed=1)] for shift in (2, 0)]
    differences = compare_classes([paired(gains, scores(0)), paired(*other, fold=1)], draws=200)
    assert [*differences] == [1, 2, 3, 4]
    ious = EpisodeMetrics(gains).per_class()
    assert [differences[number].first for number in (1, 2)] == pytest.approx([100 * ious[1], 100 * ious[2]])
    assert differences[1].low > 0 and differences[2].high < 0
    mean = compare([paired(gains, scores(0))], draws=200)[0]
    assert mean.difference == pytest.approx((differences[1].difference + differences[2].difference) / 2)


def test_the_command_prints_a_line_for_each_fold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = [run_folder(tmp_path / f"a{fold}", scores(5, seed=fold), split=fold) for fold in (0, 1)]
    second = [run_folder(tmp_path / f"b{fold}", scores(0, seed=fold), split=fold) for fold in (0, 1)]
    main([*map(str, first), "--against", *map(str, second)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["fold", "0"], ["fold", "1"]]
    assert lines[3].startswith("mean")
    assert [line.split()[:2] for line in lines[4:6]] == [["class", "1"], ["class", "2"]]
    assert lines[6].startswith("0 of 2 classes lose, 0 with an interval below 0; the lowest difference is +")


def test_other_episodes_are_refused(tmp_path: Path) -> None:
    def pair(first: Path, second: Path) -> PairedTest:
        return paired_test(read_repeated_test(first), read_repeated_test(second))

    folder = run_folder(tmp_path / "a", scores(0))
    with pytest.raises(UserError, match="same episodes: split 0 and 1"):
        pair(folder, run_folder(tmp_path / "b", scores(0), split=1))
    with pytest.raises(UserError, match="hold different episodes"):
        pair(folder, run_folder(tmp_path / "c", scores(0, episodes=30)))
    with pytest.raises(UserError, match="2 folders against 1"):
        main([str(folder), str(folder), "--against", str(folder)])


def test_numbers_are_those_of_before_seeds_could_be_drawn() -> None:
    """With one seed each, to the last digit."""
    tests = [paired(scores(5), scores(0)), paired(scores(2, seed=1), scores(0, seed=1), fold=1)]
    assert [(value.first, value.second, value.low, value.high) for value in compare(tests)] == [
        (28.37308944094261, 24.38118811881188, 3.792576363461985, 4.204795439606506),
        (25.99030112773224, 24.422622432199105, 1.5183657615365953, 1.6166653722225581),
        (27.181695284337426, 24.40190527550549, 2.682076885096142, 2.8850024793660314),
    ]


def test_several_seeds_are_compared_by_their_mean_and_widen_the_interval() -> None:
    """Two methods whose gain differs from seed to seed; the same rows, without it, for comparison."""
    spread = PairedTest("fold 0", [scores(1), scores(9)], [scores(0)])
    alike = PairedTest("fold 0", [scores(5), scores(5)], [scores(0)])
    mious = [100 * EpisodeMetrics(scores(shift)).miou() for shift in (1, 9, 0)]
    wide, narrow = (compare([test])[0] for test in (spread, alike))
    assert wide.difference == pytest.approx((mious[0] + mious[1]) / 2 - mious[2])
    assert wide.low < mious[0] - mious[2] < mious[1] - mious[2] < wide.high
    assert narrow == pytest.approx(compare([paired(scores(5), scores(0))])[0])


def test_a_seed_is_drawn_in_every_fold_at_once() -> None:
    """Two folds in which one seed is good and the other is not: their mean is as uncertain as each."""
    tests = [PairedTest(f"fold {fold}", [scores(0), scores(20)], [scores(0)]) for fold in (0, 1)]
    fold_0, _, mean = compare(tests)
    assert mean.high - mean.low == pytest.approx(fold_0.high - fold_0.low)


def test_the_command_takes_folders_of_several_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        run_folder(seed_folder(tmp_path / "a", seed), scores(seed))
    save_seed_results(tmp_path / "a", [1, 2])
    run_folder(tmp_path / "b", scores(0))
    main([str(tmp_path / "a"), "--against", str(tmp_path / "b")])
    assert capsys.readouterr().out.splitlines()[3].split()[:3] == ["seeds", "2", "1"]
    with pytest.raises(UserError, match=r"b has no seeds, \S+a has the seeds 1, 2; test every fold with the same"):
        read_method([tmp_path / "a", tmp_path / "b"])
