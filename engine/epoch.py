"""One epoch of training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine.batch_parts import equal_parts
from engine.epoch_report import EpochReport, Metrics, StepMetrics
from engine.evaluate import batch_logits
from engine.fitting import fitting_step
from engine.optimizers import Optimizers
from model.layers.noise import part_of_batch
from util.distributed import average_gradients

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Computation:
    """How a step is computed: on which device, in how many parts one after the other, and in which precision.

    A part needs less memory than all; the sum of their gradients is that of the batch. With ``bf16`` the network runs
    under autocast.
    """

    device: torch.device
    parts: int = 1
    bf16: bool = False


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
    computation: Computation,
    print_freq: int,
    after_step: Callable[[], None] | None = None,
) -> Metrics:
    """Iterate over ``batches``, those that ``report`` does not have yet, and return the metrics of the epoch.

    Of several processes each has its equal part of every batch, and they take one step together.
    ``sgd_lr(iteration)`` is the learning rate of the SGD part. A line is printed every ``print_freq`` steps of the
    epoch and after its last one; then ``after_step()`` is called. The metrics are means over the steps of ``loss``,
    ``margin`` (mean distance between the two logits), ``predicted_share`` and ``object_share`` (of the pixels that are
    not ignored, 0..1); the learning rates of the last step; and ``miou``, ``fb_iou`` and ``accuracy`` over all queries
    (``EpisodeMetrics.means``). Raises ``UserError`` when the loss is no longer finite, at the next printed line.
    """
    model.train()
    last_step = report.steps + len(batches)

    def step(batch: Mapping[str, Any]) -> StepMetrics:
        return _train_step(model, batch, loss, optimizers, computation)

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
    model: nn.Module, batch: Mapping[str, Any], loss: Loss, optimizers: Optimizers, computation: Computation
) -> StepMetrics:
    """One update of the weights; returns the step's metrics."""
    optimizers.zero_grad()
    metrics, parts = [], min(computation.parts, len(batch["class_id"]))  # fewer where it is tried what fits in memory
    for number, part in enumerate(equal_parts(batch, parts)):
        with part_of_batch(number, parts, computation.device):
            metrics.append(_add_gradients(model, part, loss, computation))
    average_gradients(optimizers.parameters())
    optimizers.step()
    means, areas, classes = zip(*metrics, strict=True)
    return StepMetrics(torch.stack(means).mean(dim=0), torch.cat(areas), torch.cat(classes))


def _add_gradients(model: nn.Module, part: Mapping[str, Any], loss: Loss, computation: Computation) -> StepMetrics:
    """Add the gradients of a part of a batch to those of the parts before; returns its metrics."""
    target, classes = (part[name].to(computation.device, non_blocking=True) for name in ("query_mask", "class_id"))
    with torch.autocast(computation.device.type, torch.bfloat16, enabled=computation.bf16):
        logits = batch_logits(model, part, computation.device)
    value = loss(logits, target)
    (value / computation.parts).backward()
    difference = logits.detach()[:, 1] - logits.detach()[:, 0]
    means = torch.stack([value.detach().double(), difference.abs().mean().double()])
    return StepMetrics(means, _areas(difference > 0, target), classes)


def _areas(predicted: Tensor, target: Tensor) -> Tensor:
    """``Areas`` of each query, (B, 4) int64: objects and ``target`` (B, H, W), 0 background, 1 object, 255 ignored."""
    counted, true = target != 255, target == 1
    return torch.stack([predicted & true, predicted & counted, true, counted], dim=1).sum(dim=(2, 3))
