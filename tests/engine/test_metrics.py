"""Areas against golden values and a loop; means over classes by hand."""

import pytest
import torch

from engine.metrics import Areas, EpisodeMetrics, intersection_union
from tests import golden


def test_areas_match_golden() -> None:
    values = golden.load("intersection_union")
    prediction, target = values["output"].clone(), values["target"].clone()
    areas = intersection_union(prediction, target, k=2)
    for ours, name in zip(areas, ("intersection", "union", "target_area"), strict=True):
        assert torch.equal(ours, values[name])
    assert torch.equal(prediction, values["output"])  # the published code overwrote its input
    assert torch.equal(target, values["target"])


def test_areas_match_a_loop_over_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randint(0, 5, (9, 13), generator=generator)
    target = torch.randint(0, 5, (9, 13), generator=generator)
    target[:2] = 255
    intersection, union, area = intersection_union(prediction, target, k=5)
    counted = target != 255
    for label in range(5):
        predicted, true = (prediction == label) & counted, target == label
        assert intersection[label] == (predicted & true).sum()
        assert union[label] == (predicted | true).sum()
        assert area[label] == true.sum()


def test_means_accumulate_over_episodes_before_dividing() -> None:
    metrics = EpisodeMetrics()
    target = torch.tensor([[1, 1, 0, 0]])
    metrics.add(3, "horse", torch.tensor([[1, 0, 0, 0]]), target)
    metrics.add(3, "horse", torch.tensor([[1, 1, 1, 1]]), target)
    metrics.add(8, "sheep", torch.tensor([[0, 0, 0, 0]]), torch.tensor([[1, 0, 255, 255]]))
    assert metrics.per_class() == pytest.approx({3: (1 + 2) / (2 + 4), 8: 0.0})
    assert metrics.miou() == pytest.approx(0.25)
    # Background: (2 + 0 + 1) of (3 + 2 + 2); object: (1 + 2 + 0) of (2 + 4 + 1).
    assert metrics.fb_iou() == pytest.approx((3 / 7 + 3 / 7) / 2)
    assert metrics.total() == Areas(overlap=3, predicted=5, true=5, pixels=10)
    assert (metrics.empty_predictions, metrics.episodes) == (1, 3)
