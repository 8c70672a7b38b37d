"""The results of a test: the numbers, both files or none, and what is read back of damaged ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine import results as results_module
from engine.gallery import Gallery
from engine.metrics import Areas, EpisodeMetrics, EpisodeScore
from engine.results import RESULTS, build_results, read_results, read_test, save_test
from engine.scores import write_scores
from tests.engine.test_report import PROTOCOL
from util.errors import UserError

ROWS = [EpisodeScore(1, "a.jpg", Areas(10, 30, 20, 100)), EpisodeScore(2, "b.jpg", Areas(40, 60, 80, 200))]
NO_PICTURES = Gallery(0, 1, lambda row: np.zeros((1, 1, 3), np.uint8))


def saved(folder: Path, rows: list[EpisodeScore] = ROWS) -> dict[str, Any]:
    """A test of classes 1 to 3 in the folder; returns its results."""
    results = build_results(EpisodeMetrics(rows), PROTOCOL, [1, 2, 3])
    save_test(folder, results, rows, NO_PICTURES)
    return results


def test_results_are_in_percent_and_name_classes_never_drawn() -> None:
    metrics = EpisodeMetrics()
    metrics.add(2, "horse", torch.tensor([[1, 1, 0, 0]]), torch.tensor([[1, 0, 0, 255]]))
    results = build_results(metrics, PROTOCOL, [1, 2])
    assert results["miou"] == pytest.approx(50)
    assert results["miou_interval"] == pytest.approx([50, 50])
    assert results["per_class"] == {"2": pytest.approx(50)}
    assert results["per_class_accuracy"] == {"2": pytest.approx(100)}
    assert results["accuracy"] == pytest.approx(200 / 3)
    assert results["classes_never_drawn"] == [1]
    assert results["predicted_object"] == pytest.approx(200 / 3)
    assert results["true_object"] == pytest.approx(100 / 3)
    assert results["fb_iou"] == pytest.approx(50)
    assert build_results(metrics, PROTOCOL, [2])["protocol"]["mean_over"] == "all 1 classes"


def test_a_test_comes_back(tmp_path: Path) -> None:
    written = saved(tmp_path)
    results, scores = read_test(tmp_path)
    assert (results.miou, results.per_class) == (written["miou"], {"1": pytest.approx(25), "2": pytest.approx(40)})
    assert scores == ROWS
    # Of a test by an earlier version, which measured less.
    for key in ("accuracy", "per_class_accuracy", "miou_interval"):
        del written[key]
    del written["protocol"]["mean_over"]
    (tmp_path / RESULTS).write_text(json.dumps(written))
    assert read_test(tmp_path) == (results.model_copy(update={"miou_interval": None}), ROWS)


@pytest.mark.parametrize("dies_in", ["write_scores", "write_json"])
def test_a_test_that_dies_leaves_no_results_beside_the_scores_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    saved(tmp_path)
    monkeypatch.setattr(results_module, dies_in, die)
    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path, ROWS[:1])
    assert not (tmp_path / RESULTS).exists()


def test_the_scores_of_another_test_are_refused(tmp_path: Path) -> None:
    """Other areas, other classes, fewer."""
    saved(tmp_path)
    for rows in (
        [ROWS[0], ROWS[1]._replace(areas=Areas(41, 60, 80, 200))],
        [ROWS[0], ROWS[1]._replace(slot=3)],
        ROWS[:1],
    ):
        write_scores(tmp_path, rows)
        with pytest.raises(UserError, match="are of different tests; run bash test"):
            read_test(tmp_path)


# A key of the results, "" for all of them, and what is written there.
DAMAGE: dict[str, list[Any]] = {
    "": [None, [], 3, "text", {}],
    "miou": [None, True, "50", [], float("nan"), float("inf"), -1, 101, 10**400],
    "miou_interval": [3, [], [1], [1, 2, 3], ["1", "2"], [-1, 2], [1, 101]],
    "per_class": [None, [], {}, {"1": "x"}, {"1": -3}],
    "protocol": [None, [], "x", {}],
    "protocol.episodes": [0, -1, 1.5, "1", None, True],
    "protocol.split": [-1, 6, "0", None],
    "protocol.method": [None, 3, []],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in DAMAGE.items() for value in values])
def test_damaged_results_are_one_line(tmp_path: Path, key: str, value: Any) -> None:
    results = saved(tmp_path)
    *sections, name = key.split(".")
    if name:
        (results[sections[0]] if sections else results)[name] = value
    else:
        results = value
    (tmp_path / RESULTS).write_text(json.dumps(results))
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / RESULTS}: not the results of a test (")) as error:
        read_results(tmp_path)
    assert key in str(error.value)
    assert "\n" not in str(error.value)


def test_results_lack_a_key(tmp_path: Path) -> None:
    for key in ("miou", "fb_iou", "per_class", "protocol"):
        results = saved(tmp_path)
        del results[key]
        (tmp_path / RESULTS).write_text(json.dumps(results))
        with pytest.raises(UserError, match=rf"not the results of a test \({key}: Field required\)"):
            read_results(tmp_path)
