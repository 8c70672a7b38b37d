"""Tests of every photograph: figures by hand and against scikit-learn, what is written and read back."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from engine.bootstrap import Bootstrap
from engine.compare import main
from engine.folder_results import (
    build_folder_results,
    folder_table,
    read_folder_results,
    read_folder_test,
    save_folder_test,
)
from engine.metrics import Areas, EpisodeScore
from engine.report import comparison_table
from engine.scores import PHOTOGRAPHS
from tests.engine.test_compare import PROTOCOL, run_folder
from tests.engine.test_compare import scores as ordinary_scores
from util.errors import UserError

MIN_AREA = 50
NONE = dict.fromkeys(range(1, 5), -np.inf)


def scores() -> list[EpisodeScore]:
    """Two classes in 40 images; in a third of them the object, sometimes less than ``MIN_AREA`` of it."""
    rng = np.random.default_rng(0)
    rows = []
    for image in range(40):
        for slot in (1, 2):
            true = int(rng.integers(20, 100)) if rng.random() < 0.35 else 0
            predicted = int(rng.integers(0, 120))
            overlap = int(rng.integers(0, min(true, predicted) + 1))
            similarity = round(float(rng.normal(0.4 + 0.2 * (true > 0), 0.1)), 1)  # with ties
            rows.append(EpisodeScore(slot, f"{image}.jpg", Areas(overlap, predicted, true, 400), similarity))
    return rows


def clear(slot: int) -> list[EpisodeScore]:
    return [row for row in scores() if row.slot == slot and (row.areas.true == 0 or row.areas.true >= MIN_AREA)]


def test_figures_of_each_class() -> None:
    results = build_folder_results(scores(), PROTOCOL, min_area=MIN_AREA, thresholds=NONE)
    assert [*results["per_class"]] == ["1", "2"]
    for slot in (1, 2):
        figures, rows = results["per_class"][str(slot)], [row for row in scores() if row.slot == slot]
        overlap, union = sum(row.areas.overlap for row in rows), sum(row.areas.union for row in rows)
        assert figures["folder_iou"] == pytest.approx(100 * overlap / union)
        without = [row.areas for row in rows if row.areas.true == 0]
        needless = sum(areas.predicted for areas in without)
        assert figures["folder_iou_perfect_gate"] == pytest.approx(100 * overlap / (union - needless))
        assert figures["false_area"] == pytest.approx(100 * needless / (400 * len(without)))
        present, similarity = [row.areas.true > 0 for row in clear(slot)], [row.similarity for row in clear(slot)]
        assert figures["presence_auc"] == pytest.approx(100 * roc_auc_score(present, similarity))
        assert figures["presence_ap"] == pytest.approx(100 * average_precision_score(present, similarity))


def test_predictions_are_emptied_up_to_the_threshold_of_their_class() -> None:
    thresholds = {1: 0.5, 2: 0.4}
    results = build_folder_results(scores(), PROTOCOL, min_area=MIN_AREA, thresholds=thresholds)
    without = build_folder_results(scores(), PROTOCOL, min_area=MIN_AREA, thresholds=NONE)
    for slot in ("1", "2"):
        figures, rows = results["per_class"][slot], [row for row in scores() if row.slot == int(slot)]
        kept = [row for row in rows if (row.similarity or 0) > thresholds[int(slot)]]
        overlap = sum(row.areas.overlap for row in kept)
        union = sum(row.areas.union for row in kept) + sum(row.areas.true for row in rows if row not in kept)
        assert 0 < len(kept) < len(rows) and figures["folder_iou"] == pytest.approx(100 * overlap / union)
        needless = [row.areas.predicted * (row in kept) / 400 for row in rows if row.areas.true == 0]
        assert figures["false_area"] == pytest.approx(100 * np.mean(needless))
        assert figures["folder_iou_ungated"] == without["per_class"][slot]["folder_iou"]
        for name in ("folder_iou_perfect_gate", "presence_auc", "presence_ap"):
            assert figures[name] == without["per_class"][slot][name]


def test_means_are_over_classes_and_lie_in_their_intervals() -> None:
    results = build_folder_results(scores(), PROTOCOL, min_area=MIN_AREA, thresholds=NONE)
    for name in ("folder_iou", "folder_iou_perfect_gate", "presence_auc", "presence_ap", "false_area"):
        assert results[name] == pytest.approx((results["per_class"]["1"][name] + results["per_class"]["2"][name]) / 2)
    for name in ("folder_iou", "presence_auc"):
        low, high = results[f"{name}_interval"]
        assert low < results[name] < high


def test_a_class_that_no_image_or_every_image_holds_is_in_no_mean_that_needs_both(tmp_path: Path) -> None:
    """Class 3 is in no query, class 4 in all."""
    rows = [
        EpisodeScore(slot, f"{i}.jpg", Areas(0, 0, true, 400), 0.5)
        for i in range(3)
        for slot, true in ((3, 0), (4, 60))
    ]
    results = build_folder_results([*scores(), *rows], PROTOCOL, min_area=MIN_AREA, thresholds=NONE)
    alone = build_folder_results(scores(), PROTOCOL, min_area=MIN_AREA, thresholds=NONE)
    assert results["presence_auc"] == pytest.approx(alone["presence_auc"])
    assert results["per_class"]["3"]["folder_iou"] is None and results["per_class"]["4"]["folder_iou"] == 0
    assert results["folder_iou"] == pytest.approx(alone["folder_iou"] * 2 / 3)
    assert [results["per_class"][slot]["presence_ap"] for slot in ("3", "4")] == [None, None]
    assert results["per_class"]["3"]["false_area"] == 0 and results["per_class"]["4"]["false_area"] is None
    only = build_folder_results(rows, PROTOCOL, min_area=MIN_AREA, thresholds=NONE)
    assert only["presence_auc"] is only["presence_auc_interval"] is None
    assert " -  " in folder_table(only, 0.25, {})
    save_folder_test(tmp_path, only, rows)
    assert read_folder_results(tmp_path).presence_auc is None and " - " in comparison_table([tmp_path])


def test_drawn_images_weigh_in_the_area_under_the_curve() -> None:
    rows = clear(1)
    bootstrap = Bootstrap([row.query for row in rows], draws=20)
    names = sorted({row.query for row in rows})
    values = bootstrap.aucs(rows, MIN_AREA)
    for draw, value in enumerate(values):
        times = dict(zip(names, bootstrap._times_drawn[draw], strict=True))
        expected = roc_auc_score(
            [row.areas.true > 0 for row in rows],
            [row.similarity for row in rows],
            sample_weight=[times[row.query] for row in rows],
        )
        assert value == pytest.approx(100 * expected)


def test_what_is_written_is_read_back_and_reported_in_a_table_of_its_own(tmp_path: Path) -> None:
    results = build_folder_results(scores(), PROTOCOL, min_area=MIN_AREA, thresholds={1: 0.5, 2: 0.5})
    save_folder_test(tmp_path / "folder", results, scores())
    read = read_folder_results(tmp_path / "folder")
    assert read.folder_iou == results["folder_iou"] and read.protocol.label_use == "none"
    with (tmp_path / "folder" / PHOTOGRAPHS).open() as stream:
        rows = [*csv.DictReader(stream)]
    assert [float(row["similarity"]) for row in rows] == [row.similarity for row in scores()]
    assert {*rows[0]} == {"class", "query", "similarity", "overlap", "predicted", "true", "pixels"}
    ordinary = run_folder(tmp_path / "ordinary", ordinary_scores(0))
    tables = comparison_table([tmp_path / "folder", ordinary]).split("\n\n")
    assert len(tables) == 2 and "mIoU" in tables[0] and str(ordinary) in tables[0]
    assert "perfect gate" in tables[1] and f"{results['presence_auc']:.2f}" in tables[1]
    assert comparison_table([tmp_path / "folder"]).count("\n") == 2


def test_the_scores_that_results_come_from_are_read_as_the_gate_left_them(tmp_path: Path) -> None:
    thresholds = {1: 0.5, 2: -np.inf}
    save_folder_test(
        tmp_path, build_folder_results(scores(), PROTOCOL, min_area=MIN_AREA, thresholds=thresholds), scores()
    )
    results, gated = read_folder_test(tmp_path)
    assert results.per_class["1"].threshold == 0.5 and results.per_class["2"].threshold is None
    for before, after in zip(scores(), gated, strict=True):
        is_kept = before.slot == 2 or (before.similarity or 0) > 0.5
        assert after == (before if is_kept else before._replace(areas=before.areas._replace(overlap=0, predicted=0)))
    save_folder_test(
        tmp_path / "other", build_folder_results(scores()[:60], PROTOCOL, min_area=MIN_AREA, thresholds=NONE), scores()
    )
    with pytest.raises(
        UserError, match=r"photographs\.csv and results\.json are of different tests; run .*--every-photo"
    ):
        read_folder_test(tmp_path / "other")


def test_two_methods_are_compared_by_the_iou_of_their_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = {"gated": {1: 0.5, 2: 0.5}, "all": NONE}
    results = {}
    for name, thresholds in tests.items():
        results[name] = build_folder_results(scores(), PROTOCOL, min_area=MIN_AREA, thresholds=thresholds)
        save_folder_test(tmp_path / name, results[name], scores())
    main([str(tmp_path / "gated"), "--against", str(tmp_path / "all")])
    lines = capsys.readouterr().out.splitlines()
    gated, everything = (results[name]["folder_iou"] for name in tests)
    assert lines[1].split()[2:5] == [f"{gated:.2f}", f"{everything:.2f}", f"{gated - everything:+.2f}"]
    assert [line.split()[:2] for line in lines[3:5]] == [["class", "1"], ["class", "2"]]
    with pytest.raises(UserError, match="hold different episodes"):
        main([str(tmp_path / "gated"), "--against", str(run_folder(tmp_path / "ordinary", ordinary_scores(0)))])


def test_a_table_for_the_terminal() -> None:
    results = build_folder_results(scores(), PROTOCOL, min_area=MIN_AREA, thresholds=NONE)
    table = folder_table(results, 0.25, {2: "cow"})
    assert f"{results['per_class']['2']['folder_iou']:6.2f}" in table and table.count("cow") == 1
    assert "mean" in table and "0.250 s for an episode" in table


def test_results_of_another_kind_are_refused(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, ordinary_scores(0))
    with pytest.raises(UserError, match=r"results\.json: .*every photograph"):
        read_folder_results(folder)
    (folder / "results.json").write_text(json.dumps({"folder_iou": 120}))
    with pytest.raises(UserError, match=r"results\.json: .*folder_iou"):
        comparison_table([folder])
