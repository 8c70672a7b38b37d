"""The metrics of an epoch: what is printed, what is returned, how often the device is read."""

from __future__ import annotations

import itertools
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from engine.epoch import Computation, train_one_epoch
from engine.epoch_report import EpochReport, Metrics
from engine.optimizers import Optimizers, build_optimizers
from model.loss import dice_loss
from tests.engine.small_training import training_batch
from tests.model.networks import tiny_model
from util.errors import UserError
from util.logging import logger

CPU = torch.device("cpu")


class Bias(nn.Module):
    """Logits (B, 2, H, W) that are two parameters everywhere."""

    def __init__(self, background: float, objects: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([background, objects]))

    def forward(self, query_image: Tensor, *_: Tensor) -> Tensor:
        return self.bias[None, :, None, None].expand(len(query_image), 2, *query_image.shape[-2:])


def batch(object_rows: int) -> dict[str, Tensor]:
    """One query of 10 x 10 pixels, of which the last row is ignored and the first ``object_rows`` are the object.

    Its class is 1 for less than four rows, else 2.
    """
    mask = torch.zeros(1, 10, 10, dtype=torch.int64)
    mask[:, :object_rows] = 1
    mask[:, -1] = 255
    return {
        "query_image": torch.zeros(1, 3, 10, 10),
        "query_mask": mask,
        "support_images": torch.zeros(1, 1, 3, 10, 10),
        "support_masks": mask[None],
        "query_padding": torch.zeros(1, 10, 10, dtype=torch.bool),
        "support_padding": torch.zeros(1, 1, 10, 10, dtype=torch.bool),
        "class_id": torch.tensor([1 if object_rows < 4 else 2]),
    }


def object_share(_: Tensor, target: Tensor) -> Tensor:
    """A loss that is known in advance: the number of object rows."""
    return (target == 1).sum() / 10 + 0 * _.sum()


def train(model: nn.Module, rows: list[int], print_freq: int) -> tuple[Metrics, dict[int, Metrics]]:
    """The metrics of an epoch and those of its printed lines, by iteration; the epoch starts at iteration 11."""
    lines: dict[int, Metrics] = {}
    epoch = train_one_epoch(
        model,
        [batch(count) for count in rows],
        EpochReport(11, 20, lines.__setitem__),
        loss=object_share,
        optimizers=Optimizers(torch.optim.SGD(model.parameters(), lr=0.1), torch.optim.AdamW(model.parameters(), 0.2)),
        sgd_lr=lambda iteration: iteration / 100,
        computation=Computation(CPU),
        print_freq=print_freq,
    )
    return epoch, lines


def test_lines_are_means_since_the_previous_line_and_the_epoch_is_the_mean_of_all_steps(
    messages: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger.name)
    epoch, lines = train(Bias(-1.0, 1.0), [1, 2, 3, 4, 8], print_freq=2)
    assert {iteration: metrics["loss"] for iteration, metrics in lines.items()} == {12: 1.5, 14: 3.5, 15: 8.0}
    assert epoch["loss"] == pytest.approx(18 / 5)
    assert epoch["object_share"] == pytest.approx(18 / 5 / 9)
    assert epoch["predicted_share"] == 1
    assert epoch["margin"] == pytest.approx(2, abs=0.1)
    assert (epoch["sgd_lr"], epoch["transformer_lr"]) == (0.15, 0.2)
    assert [line["sgd_lr"] for line in lines.values()] == [0.12, 0.14, 0.15]
    # Everything is predicted as object, of 9 rows that count: 1, 2 and 3 rows of class 1, 4 and 8 of class 2.
    assert [line["miou"] for line in lines.values()] == [
        pytest.approx(3 / 18), pytest.approx((3 / 9 + 4 / 9) / 2), pytest.approx(8 / 9)
    ]  # fmt: skip
    assert [line["accuracy"] for line in lines.values()] == [pytest.approx(share) for share in (3 / 18, 7 / 18, 8 / 9)]
    assert epoch["miou"] == pytest.approx((6 / 27 + 12 / 18) / 2)
    assert epoch["fb_iou"] == pytest.approx(18 / 45 / 2)
    assert epoch["accuracy"] == pytest.approx(18 / 45)
    # A clock is in the lines, but not in what an epoch returns: that is the same in every run.
    assert all(line["step_seconds"] >= line["data_seconds"] >= 0 for line in lines.values())
    assert not {"step_seconds", "data_seconds"} & set(epoch)
    assert [message.split("  ")[:2] for message in messages] == [
        ["iteration 12/20", "loss 1.5000"],
        ["iteration 14/20", "loss 3.5000"],
        ["iteration 15/20", "loss 8.0000"],
    ]
    assert "  mIoU 16.7%  accuracy 16.7%  predicted object 100.0% (true 16.7%)  margin 2." in messages[0]


def test_a_line_tells_waiting_for_data_from_the_rest_of_a_step() -> None:
    """By a clock that goes on a second with every reading."""
    with patch("engine.epoch.time.perf_counter", itertools.count().__next__):
        _, lines = train(Bias(-1.0, 1.0), [1, 2, 3, 4], print_freq=2)
    assert [(line["step_seconds"], line["data_seconds"]) for line in lines.values()] == [(2.5, 1)] * 2


def test_the_device_is_read_once_per_printed_line() -> None:
    reads = []
    read = torch.Tensor.tolist

    def tolist(tensor: Tensor) -> object:
        reads.append(tensor.dtype)
        return read(tensor)

    def refused(tensor: Tensor) -> float:
        raise AssertionError("a synchronisation within a step")

    with patch.object(torch.Tensor, "tolist", tolist), patch.object(torch.Tensor, "__float__", refused):
        train(Bias(-1.0, 1.0), [1, 2, 3, 4, 5], print_freq=2)
    assert reads == [torch.float64] * 3


@pytest.mark.parametrize("print_freq", [1, 2, 100])
def test_a_loss_that_is_not_finite_stops_before_the_end_of_the_epoch(print_freq: int) -> None:
    with pytest.raises(UserError, match=r"the loss is nan by iteration \d+; use a smaller TRAIN.base_lr"):
        train(Bias(float("nan"), 1.0), [1, 2, 3], print_freq)


def test_an_epoch_that_predicts_no_object_is_named_in_the_log(messages: list[str]) -> None:
    train(Bias(1.0, -1.0), [1, 2], print_freq=2)
    assert messages[-1] == "COLLAPSED: 0.00% of the pixels are predicted as object"


@pytest.mark.parametrize("computation", [Computation(CPU, parts=2), Computation(CPU, bf16=True)])
def test_parts_and_precision_change_only_roundings(computation: Computation) -> None:
    """Of the weights after three steps, dropout and clustering included."""
    weights = []
    for how in (Computation(CPU), computation):
        torch.manual_seed(0)
        model = tiny_model()
        torch.manual_seed(1)
        train_one_epoch(
            model,
            [training_batch()] * 3,
            EpochReport(1, 3),
            loss=dice_loss,
            optimizers=build_optimizers(
                model, base_lr=0.1, momentum=0, weight_decay=0, transformer_lr=1e-4, transformer_weight_decay=0
            ),
            sgd_lr=lambda _: 0.01,
            computation=how,
            print_freq=3,
        )
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad]))
    difference = (weights[0] - weights[1]).abs().max()
    assert 0 < difference < (5e-3 if computation.bf16 else 1e-4)
