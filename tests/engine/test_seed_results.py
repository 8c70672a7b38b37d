"""Tests of several seeds: mean and spread, what is read back, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from engine.metrics import EpisodeMetrics
from engine.report import comparison_table
from engine.seed_results import (
    SEEDS,
    read_repeated_test,
    read_seed_results,
    save_seed_results,
    seed_folder,
    seeds_table,
)
from tests.engine.test_compare import run_folder, scores
from util.errors import UserError


def seeds_tested(folder: Path, *seeds: int, **protocol: Any) -> Path:
    """Tests of several seeds, each with an overlap higher by its number."""
    for seed in seeds:
        run_folder(seed_folder(folder, seed), scores(seed), **protocol)
    save_seed_results(folder, seeds)
    return folder


def test_mean_and_spread(tmp_path: Path) -> None:
    results = read_seed_results(seeds_tested(tmp_path, 3, 1, 2))
    mious = [100 * EpisodeMetrics(scores(seed)).miou() for seed in (1, 2, 3)]
    mean = sum(mious) / 3
    deviation = (sum((miou - mean) ** 2 for miou in mious) / 2) ** 0.5
    assert results.seeds == [3, 1, 2]
    spread = results.miou
    assert (spread.mean, spread.deviation) == (pytest.approx(mean), pytest.approx(deviation))
    assert (spread.lowest, spread.highest) == (pytest.approx(min(mious)), pytest.approx(max(mious)))
    low, high = results.miou_interval
    assert low < min(mious) and max(mious) < high
    assert f"mIoU  {mean:6.2f}  standard deviation {deviation:.2f}, {min(mious):.2f} to" in seeds_table(results)
    assert results.protocol.episodes == 40


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    results = read_seed_results(seeds_tested(tmp_path, 7))
    assert results.miou.deviation is None
    assert "standard deviation -," in seeds_table(results)


def test_seeds_that_were_tested_in_other_ways(tmp_path: Path) -> None:
    seeds_tested(tmp_path, 1)
    run_folder(seed_folder(tmp_path, 2), scores(2), shots=5)
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}/seed_2: tested in another way than {tmp_path}/seed_1")):
        save_seed_results(tmp_path, [1, 2])


def test_a_folder_stands_for_its_seeds_or_for_itself(tmp_path: Path) -> None:
    several = read_repeated_test(seeds_tested(tmp_path / "several", 1, 2))
    assert (several.seeds, several.tables) == ([1, 2], [scores(1), scores(2)])
    (tmp_path / "several" / SEEDS).unlink()  # tested one by one
    assert read_repeated_test(tmp_path / "several") == several
    run_folder(seed_folder(tmp_path / "several", 3), scores(3), shots=5)
    with pytest.raises(UserError, match="seed_3: tested in another way than"):
        read_repeated_test(tmp_path / "several")
    one = read_repeated_test(run_folder(tmp_path / "one", scores(4)))
    assert (one.seeds, one.tables) == ([], [scores(4)])


def test_a_report_has_a_line_for_the_seeds(tmp_path: Path) -> None:
    miou = read_seed_results(seeds_tested(tmp_path, 1, 2)).miou
    (line,) = comparison_table([tmp_path]).splitlines()[2:]
    assert re.search(rf"{miou.mean:.2f} .* [0-9.]+ to [0-9.]+ +2  none +{re.escape(str(tmp_path))}$", line)
    run_folder(tmp_path, scores(0))
    assert [line.split()[9] for line in comparison_table([tmp_path]).splitlines()[2:]] == ["1", "2"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("seeds", []), ("seeds", ["1"]), ("miou", 3), ("miou_interval", [1]), ("fb_iou", None), ("protocol", {})],
)
def test_damaged_files_are_one_line(tmp_path: Path, key: str, value: object) -> None:
    content = json.loads((seeds_tested(tmp_path, 1, 2) / SEEDS).read_text())
    (tmp_path / SEEDS).write_text(json.dumps({**content, key: value}))
    with pytest.raises(UserError, match=rf"seeds\.json: not the results of several seeds \({key}") as error:
        read_repeated_test(tmp_path)
    assert "\n" not in str(error.value)
