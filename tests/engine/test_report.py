"""Tables of results."""

from pathlib import Path

import pytest
import torch

from engine.metrics import EpisodeMetrics
from engine.report import comparison_table, results_table
from engine.results import RESULTS, build_results
from util.errors import UserError
from util.files import write_json

PROTOCOL = {
    "method": "nearest", "dataset": "pascal", "val_list": "val.txt", "split": 0, "shots": 1, "episodes": 1, "seed": 1,
    "min_area": 9, "compat": "ours", "label_use": "none",
}  # fmt: skip


def results() -> dict[str, object]:
    metrics = EpisodeMetrics()
    metrics.add(2, "horse", torch.tensor([[1, 1, 0, 0]]), torch.tensor([[1, 0, 0, 255]]))
    return build_results(metrics, PROTOCOL, [1, 2])


def test_a_test_as_a_table() -> None:
    table = results_table(results(), 0.25)
    assert "         class 2   50.00    100.00\n" in table
    assert "        accuracy   66.67  of all pixels" in table
    assert "mean_over  the 1 of 2 classes that were drawn; 25.00 where the others count as 0" in table
    assert "never drawn  [1]" in table
    assert "method  nearest" in table
    assert "            mIoU   50.00  95 % interval 50.00 to 50.00, over test images\n" in table
    assert "inference   0.250 s for an episode" in table
    named = table.replace("50.00    100.00", "50.00    100.00  traffic light", 1)
    assert results_table(results(), 0.25, {1: "cow", 2: "traffic light"}) == named


def test_comparison_leaves_out_folders_without_results(tmp_path: Path) -> None:
    write_json(tmp_path / "tested" / RESULTS, results())
    table = comparison_table([tmp_path / "tested", tmp_path / "only_trained"])
    assert len(table.splitlines()) == 3
    words = ["nearest", "0", "1", "1", "50.00", "50.00", "50.00", "to", "50.00", "1", "none"]
    assert table.splitlines()[2].split()[:11] == words
    earlier = {key: value for key, value in results().items() if key != "miou_interval"}
    write_json(tmp_path / "tested" / RESULTS, earlier)
    assert comparison_table([tmp_path / "tested"]).splitlines()[2].split()[5:9] == ["50.00", "-", "1", "none"]
    with pytest.raises(UserError, match=r"only_trained: no results\.json"):
        comparison_table([tmp_path / "only_trained"])
