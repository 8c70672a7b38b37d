"""Results as numbers with their protocol, and tables of them."""

from pathlib import Path

import pytest
import torch

from engine.metrics import EpisodeMetrics
from engine.report import build_results, comparison_table, results_table, save_results
from util.errors import UserError

PROTOCOL = {"method": "nearest", "split": 0, "shots": 1, "episodes": 1, "label_use": "none"}


def results() -> dict[str, object]:
    metrics = EpisodeMetrics()
    metrics.add(2, "horse", torch.tensor([[1, 1, 0, 0]]), torch.tensor([[1, 0, 0, 255]]))
    return build_results(metrics, PROTOCOL, [1, 2])


def test_results_are_in_percent_and_name_classes_never_drawn() -> None:
    summary = results()
    assert summary["miou"] == pytest.approx(50)
    assert summary["per_class"] == {"2": pytest.approx(50)}
    assert summary["classes_never_drawn"] == [1]
    assert summary["predicted_object"] == pytest.approx(200 / 3)
    assert summary["true_object"] == pytest.approx(100 / 3)
    assert summary["fb_iou"] == pytest.approx(50)
    table = results_table(summary)
    assert "class 2   50.00" in table
    assert results_table(summary, {1: "cow", 2: "traffic light"}) == table.replace("50.00", "50.00  traffic light", 1)
    assert "never drawn  [1]" in table
    assert "method  nearest" in table


def test_comparison_leaves_out_folders_without_results(tmp_path: Path) -> None:
    save_results(results(), tmp_path / "tested")
    table = comparison_table([tmp_path / "tested", tmp_path / "only_trained"])
    assert len(table.splitlines()) == 3
    assert "50.00" in table.splitlines()[2]
    with pytest.raises(UserError, match=r"only_trained: no results\.json"):
        comparison_table([tmp_path / "only_trained"])
