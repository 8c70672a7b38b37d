"""One epoch of training, and the metrics that it reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sized
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine.evaluate import batch_logits
from engine.optimizers import Optimizers
from util.errors import UserError
from util.logging import logger

# An epoch that predicts a smaller share of object pixels than this has collapsed to background.
MIN_PREDICTED_SHARE = 0.001

Loss = Callable[[Tensor, Tensor], Tensor]
Metrics = dict[str, float]
# An iteration of the run, counted from 1, and the means over the steps since the previous printed line.
OnPrintedLine = Callable[[int, Metrics], None]


class Batches(Sized, Protocol):
    """An iterable of batches of episodes that knows their number."""

    def __iter__(self) -> Any: ...


def train_one_epoch(
    model: nn.Module,
    batches: Batches,
    *,
    loss: Loss,
    optimizers: Optimizers,
    sgd_lr: Callable[[int], float],
    first_iteration: int,
    last_iteration: int,
    device: torch.device,
    print_freq: int,
    on_printed_line: OnPrintedLine | None = None,
) -> Metrics:
    """Iterate over ``batches`` once and return the means over the epoch.

    ``sgd_lr(iteration)`` is the learning rate of the SGD part. Iterations are those of the whole run and count from 1;
    this epoch's start at ``first_iteration``. A line is printed every ``print_freq`` steps and after the last one.
    The metrics are ``loss``, ``margin`` (mean distance between the two logits), ``predicted_share`` and
    ``object_share`` (of the pixels that are not ignored, 0..1), and the learning rates of the last step. Raises
    ``UserError`` when the loss is no longer finite, at the next printed line.
    """
    model.train()
    report = EpochReport(last_iteration, on_printed_line)
    for step, batch in enumerate(batches, start=1):
        iteration = first_iteration + step - 1
        rate = sgd_lr(iteration)
        optimizers.set_sgd_lr(rate)
        report.add(_train_step(model, batch, loss, optimizers, device))
        if step % print_freq == 0 or step == len(batches):
            report.print_line(iteration, {"sgd_lr": rate, "transformer_lr": optimizers.transformer_lr})
    return report.means()


class EpochReport:
    """Sums of the steps' metrics, and the lines printed from them.

    The sums stay on the device from one printed line to the next: reading a value makes the CPU wait for all work that
    is queued there, and a wait in every step leaves a GPU idle between steps.
    """

    def __init__(self, last_iteration: int, on_printed_line: OnPrintedLine | None) -> None:
        self.last_iteration = last_iteration
        self.on_printed_line = on_printed_line
        self._start = time.perf_counter()
        self._pending: dict[str, Tensor] = {}
        self._pending_steps = 0
        self._totals: Metrics = {}
        self._steps = 0
        self._rates: Metrics = {}

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Add the metrics of a step, float64 scalars on the device; every step has the same names."""
        self._pending = {
            name: self._pending[name] + value if self._pending else value for name, value in metrics.items()
        }
        self._pending_steps += 1

    def print_line(self, iteration: int, rates: Metrics) -> None:
        """Print the means over the steps since the last line. Raises ``UserError`` when the loss is not finite."""
        # The only synchronisation with the device.
        sums = dict(zip(self._pending, torch.stack(list(self._pending.values())).tolist(), strict=True))
        metrics = {**{name: value / self._pending_steps for name, value in sums.items()}, **rates}
        self._totals = {name: self._totals.get(name, 0.0) + value for name, value in sums.items()}
        self._steps += self._pending_steps
        self._rates = rates
        self._pending, self._pending_steps = {}, 0
        _check_finite(metrics["loss"], iteration)
        _log_line(metrics, iteration, self.last_iteration, seconds=(time.perf_counter() - self._start) / self._steps)
        if self.on_printed_line is not None:
            self.on_printed_line(iteration, metrics)

    def means(self) -> Metrics:
        """Means over all steps that lines were printed for; a collapse is named in the log."""
        metrics = {**{name: value / self._steps for name, value in self._totals.items()}, **self._rates}
        if metrics["predicted_share"] < MIN_PREDICTED_SHARE:
            logger.warning("COLLAPSED: %.2f%% of the pixels are predicted as object", 100 * metrics["predicted_share"])
        return metrics


def _train_step(
    model: nn.Module, batch: Mapping[str, Any], loss: Loss, optimizers: Optimizers, device: torch.device
) -> dict[str, Tensor]:
    """One update of the weights; returns the step's metrics, float64 scalars on ``device``."""
    target = batch["query_mask"].to(device, non_blocking=True)
    logits = batch_logits(model, batch, device)
    value = loss(logits, target)
    optimizers.zero_grad()
    value.backward()
    optimizers.step()
    return {"loss": value.detach().double(), **_prediction_metrics(logits.detach(), target)}


def _prediction_metrics(logits: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Metrics of logits (B, 2, H, W) whose ``target`` (B, H, W) is 0 background, 1 object, 255 ignored."""
    counted = target != 255
    pixels = counted.sum().clamp(min=1).double()
    difference = logits[:, 1] - logits[:, 0]
    return {
        "predicted_share": ((difference > 0) & counted).sum() / pixels,
        "object_share": (target == 1).sum() / pixels,
        "margin": difference.abs().mean().double(),
    }


def _check_finite(loss: float, iteration: int) -> None:
    if not math.isfinite(loss):
        raise UserError(
            f"the loss is {loss} by iteration {iteration}; the last checkpoint is intact: "
            "continue from it with a smaller TRAIN.base_lr or TRAIN.transformer_lr"
        )


def _log_line(metrics: Metrics, iteration: int, last_iteration: int, *, seconds: float) -> None:
    """Print the metrics, ``seconds`` per iteration and the time to the end of the run."""
    logger.info(
        "iteration %d/%d  loss %.4f  predicted object %.1f%% (true %.1f%%)  margin %.2f  lr sgd %.5f adamw %.5f  "
        "%.2f s/it  left %s",
        *(iteration, last_iteration, metrics["loss"]),
        *(100 * metrics["predicted_share"], 100 * metrics["object_share"], metrics["margin"]),
        *(metrics["sgd_lr"], metrics["transformer_lr"], seconds),
        time.strftime("%H:%M:%S", time.gmtime(seconds * (last_iteration - iteration))),
    )
