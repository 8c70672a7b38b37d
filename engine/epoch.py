"""One epoch of training, and the metrics that it reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from datetime import timedelta
from functools import reduce
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from engine.evaluate import batch_logits
from engine.metrics import Areas, EpisodeMetrics, EpisodeScore
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


class StepMetrics(NamedTuple):
    """The metrics of a step, which stay on the device, and the class of each query.

    ``values`` are float64 scalars; ``areas`` (B, 4) int64 has a row of ``engine.metrics.Areas`` for each query.
    """

    values: dict[str, Tensor]
    areas: Tensor
    classes: list[int]


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
    """Iterate over ``batches`` once and return the metrics of the epoch.

    ``sgd_lr(iteration)`` is the learning rate of the SGD part. Iterations are those of the whole run and count from 1;
    this epoch's start at ``first_iteration``. A line is printed every ``print_freq`` steps and after the last one.
    The metrics are means over the steps of ``loss``, ``margin`` (mean distance between the two logits),
    ``predicted_share`` and ``object_share`` (of the pixels that are not ignored, 0..1); the learning rates of the last
    step; and ``miou``, ``fb_iou`` and ``accuracy`` over all queries (``EpisodeMetrics.means``). Raises ``UserError``
    when the loss is no longer finite, at the next printed line.
    """
    model.train()
    report = EpochReport(last_iteration, on_printed_line)
    waiting_since = time.perf_counter()
    for step, batch in enumerate(batches, start=1):
        waited = time.perf_counter() - waiting_since
        iteration = first_iteration + step - 1
        rate = sgd_lr(iteration)
        optimizers.set_sgd_lr(rate)
        report.add(_train_step(model, batch, loss, optimizers, device), waited)
        if step % print_freq == 0 or step == len(batches):
            report.print_line(iteration, {"sgd_lr": rate, "transformer_lr": optimizers.transformer_lr})
        waiting_since = time.perf_counter()
    return report.metrics()


class EpochReport:
    """The metrics of the steps, and the lines printed from them.

    They stay on the device from one printed line to the next: reading a value makes the CPU wait for all work that
    is queued there, and a wait in every step leaves a GPU idle between steps.
    """

    def __init__(self, last_iteration: int, on_printed_line: OnPrintedLine | None) -> None:
        self.last_iteration = last_iteration
        self.on_printed_line = on_printed_line
        self._start = self._last_line = time.perf_counter()
        self._waited = 0.0
        self._pending: list[StepMetrics] = []
        self._totals: Metrics = {}
        self._scores = EpisodeMetrics()
        self._steps = 0
        self._rates: Metrics = {}

    def add(self, metrics: StepMetrics, waited: float) -> None:
        """Add a step and the seconds that it waited for its batch; every step has values of the same names."""
        self._pending.append(metrics)
        self._waited += waited

    def print_line(self, iteration: int, rates: Metrics) -> None:
        """Print the metrics of the steps since the last line. Raises ``UserError`` when the loss is not finite."""
        steps = len(self._pending)
        sums, scores = _read(self._pending)
        metrics = {**{name: value / steps for name, value in sums.items()}, **rates, **scores.means()}
        self._totals = {name: self._totals.get(name, 0.0) + value for name, value in sums.items()}
        self._scores.scores += scores.scores
        self._steps += steps
        self._rates = rates
        _check_finite(metrics["loss"], iteration)
        now = time.perf_counter()
        times = {"step_seconds": (now - self._last_line) / steps, "data_seconds": self._waited / steps}
        left = (now - self._start) / self._steps * (self.last_iteration - iteration)
        _log_line({**metrics, **times}, iteration, self.last_iteration, seconds_left=left)
        self._pending, self._waited, self._last_line = [], 0.0, now
        if self.on_printed_line is not None:
            self.on_printed_line(iteration, {**metrics, **times})

    def metrics(self) -> Metrics:
        """The metrics of all steps that lines were printed for; a collapse is named in the log."""
        means = {name: value / self._steps for name, value in self._totals.items()}
        if means["predicted_share"] < MIN_PREDICTED_SHARE:
            logger.warning("COLLAPSED: %.2f%% of the pixels are predicted as object", 100 * means["predicted_share"])
        return {**means, **self._rates, **self._scores.means()}


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


def _read(steps: Sequence[StepMetrics]) -> tuple[Metrics, EpisodeMetrics]:
    """The sums of the steps' values and the scores of their queries, by a single synchronisation with the device."""
    names = list(steps[0].values)
    sums = [reduce(torch.add, [step.values[name] for step in steps]) for name in names]
    numbers = torch.cat([torch.stack(sums), *(step.areas.flatten().double() for step in steps)]).tolist()
    width = len(Areas._fields)
    areas = [Areas(*map(int, numbers[i : i + width])) for i in range(len(names), len(numbers), width)]
    classes = [number for step in steps for number in step.classes]
    scores = [EpisodeScore(slot, "", row) for slot, row in zip(classes, areas, strict=True)]
    return dict(zip(names, numbers[: len(names)], strict=True)), EpisodeMetrics(scores)


def _check_finite(loss: float, iteration: int) -> None:
    if not math.isfinite(loss):
        raise UserError(
            f"the loss is {loss} by iteration {iteration}; use a smaller TRAIN.base_lr or TRAIN.transformer_lr and "
            "another TRAIN.save_path; TRAIN.weight=FILE starts from the weights of a checkpoint"
        )


def _log_line(metrics: Metrics, iteration: int, last_iteration: int, *, seconds_left: float) -> None:
    logger.info(
        "iteration %d/%d  loss %.4f  mIoU %.1f%%  accuracy %.1f%%  predicted object %.1f%% (true %.1f%%)  margin %.2f  "
        "lr sgd %.5f adamw %.5f  %.2f s/it (data %.2f)  left %s",
        *(iteration, last_iteration, metrics["loss"], 100 * metrics["miou"], 100 * metrics["accuracy"]),
        *(100 * metrics["predicted_share"], 100 * metrics["object_share"], metrics["margin"]),
        *(metrics["sgd_lr"], metrics["transformer_lr"], metrics["step_seconds"], metrics["data_seconds"]),
        timedelta(seconds=round(seconds_left)),
    )
