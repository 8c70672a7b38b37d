"""One epoch of training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sized
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine.epoch_report import EpochReport, Metrics, StepMetrics
from engine.evaluate import batch_logits
from engine.fitting import fitting_step
from engine.optimizers import Optimizers

Loss = Callable[[Tensor, Tensor], Tensor]


class Batches(Sized, Protocol):
    """An iterable of batches of episodes that knows their number."""

    def __iter__(self) -> Any: ...


def train_one_epoch(
    model: nn.Module,
    batches: Batches,
    report: EpochReport,
    *,
    loss: Loss,
    optimizers: Optimizers,
    sgd_lr: Callable[[int], float],
    device: torch.device,
    print_freq: int,
    after_step: Callable[[], None] | None = None,
) -> Metrics:
    """Iterate over ``batches``, those that ``report`` does not have yet, and return the metrics of the epoch.

    ``sgd_lr(iteration)`` is the learning rate of the SGD part. A line is printed every ``print_freq`` steps of the
    epoch and after its last one; then ``after_step()`` is called. The metrics are means over the steps of ``loss``,
    ``margin`` (mean distance between the two logits), ``predicted_share`` and ``object_share`` (of the pixels that are
    not ignored, 0..1); the learning rates of the last step; and ``miou``, ``fb_iou`` and ``accuracy`` over all queries
    (``EpisodeMetrics.means``). Raises ``UserError`` when the loss is no longer finite, at the next printed line.
    """
    model.train()
    last_step = report.steps + len(batches)

    def step(batch: Mapping[str, Any]) -> StepMetrics:
        return _train_step(model, batch, loss, optimizers, device)

    waiting_since = time.perf_counter()
    for batch in batches:
        waited = time.perf_counter() - waiting_since
        rate = sgd_lr(report.iteration + 1)
        optimizers.set_sgd_lr(rate)
        report.add(fitting_step(step, batch), waited)
        if report.steps % print_freq == 0 or report.steps == last_step:
            report.print_line({"sgd_lr": rate, "transformer_lr": optimizers.transformer_lr})
        if after_step is not None:
            after_step()
        waiting_since = time.perf_counter()
    return report.metrics()


def _train_step(
    model: nn.Module, batch: Mapping[str, Any], loss: Loss, optimizers: Optimizers, device: torch.device
) -> StepMetrics:
    """One update of the weights; returns the step's metrics."""
    target = batch["query_mask"].to(device, non_blocking=True)
    logits = batch_logits(model, batch, device)
    value = loss(logits, target)
    optimizers.zero_grad()
    value.backward()
    optimizers.step()
    difference = logits.detach()[:, 1] - logits.detach()[:, 0]
    areas = _areas(difference > 0, target)
    _, predicted, true, pixels = areas.sum(dim=0)
    pixels = pixels.clamp(min=1).double()
    values = {
        "loss": value.detach().double(),
        "predicted_share": predicted / pixels,
        "object_share": true / pixels,
        "margin": difference.abs().mean().double(),
    }
    return StepMetrics(values, areas, [int(number) for number in batch["class_id"]])


def _areas(predicted: Tensor, target: Tensor) -> Tensor:
    """``Areas`` of each query, (B, 4) int64: objects and ``target`` (B, H, W), 0 background, 1 object, 255 ignored."""
    counted, true = target != 255, target == 1
    return torch.stack([predicted & true, predicted & counted, true, counted], dim=1).sum(dim=(2, 3))
