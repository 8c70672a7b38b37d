"""What an epoch reports: the lines of the log, its metrics, and how far it has come, for a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from engine.metrics import Areas, EpisodeMetrics, EpisodeScore
from util.distributed import joined, world_size
from util.errors import UserError
from util.logging import logger

# An epoch that predicts a smaller share of object pixels than this has collapsed to background.
MIN_PREDICTED_SHARE = 0.001

Metrics = dict[str, float]
# An iteration of the run, counted from 1, and the means over the steps since the previous printed line.
OnPrintedLine = Callable[[int, Metrics], None]


class StepMetrics(NamedTuple):
    """The metrics of a step, which stay on the device.

    ``means`` (2,) float64 are the loss and the margin, means over the queries; ``areas`` (B, 4) int64 has a row of
    ``engine.metrics.Areas`` for each query, ``classes`` (B,) int64 its class.
    """

    means: Tensor
    areas: Tensor
    classes: Tensor


class Sums(BaseModel):
    """The metrics of some steps, added up: their values, and the areas of their queries for each class."""

    model_config = ConfigDict(strict=True)

    steps: Annotated[int, Field(ge=0)] = 0
    values: dict[str, float] = {}
    areas: dict[int, Annotated[tuple[int, ...], Field(min_length=4, max_length=4)]] = {}

    def means(self, rates: Metrics) -> Metrics:
        """Means of the values over the steps, the learning ``rates``, and ``EpisodeMetrics.means`` of all queries."""
        values = {name: value / self.steps for name, value in self.values.items()}
        return {**values, **rates, **self._scores().means()}

    def add(self, other: Sums) -> None:
        self.steps += other.steps
        self._add_values(other.values)
        self._add_areas(other._scores())

    def add_steps(self, steps: list[StepMetrics]) -> None:
        """Add steps that all processes have done, by a single synchronisation with them and with the device."""
        if not steps:
            return
        own = torch.stack([torch.cat([step.means, _rows(step).flatten().double()]) for step in steps])
        of_processes = joined(own).view(world_size(), *own.shape).tolist()
        scores = []
        for parts in zip(*of_processes, strict=True):  # the numbers of a step, for each process
            loss, margin = (sum(part[i] for part in parts) / len(parts) for i in (0, 1))
            queries = [score for part in parts for score in _scores(part[2:])]
            self._add_values({"loss": loss, **_shares(queries), "margin": margin})
            scores += queries
        self.steps += len(steps)
        self._add_areas(EpisodeMetrics(scores))

    def _scores(self) -> EpisodeMetrics:
        return EpisodeMetrics([EpisodeScore(slot, "", Areas(*areas)) for slot, areas in self.areas.items()])

    def _add_values(self, values: Metrics) -> None:
        self.values = {name: self.values.get(name, 0.0) + value for name, value in values.items()}

    def _add_areas(self, metrics: EpisodeMetrics) -> None:
        totals = EpisodeMetrics([*self._scores().scores, *metrics.scores]).totals_per_class()
        self.areas = {slot: tuple(areas) for slot, areas in totals.items()}


class EpochProgress(BaseModel):
    """How far an epoch has come: sums up to its last printed line and since, and the metrics of that line."""

    model_config = ConfigDict(strict=True)

    printed: Sums = Field(default_factory=Sums)
    since: Sums = Field(default_factory=Sums)
    last_line: dict[str, float] = {}

    @property
    def steps(self) -> int:
        return self.printed.steps + self.since.steps


class EpochReport:
    """The metrics of an epoch's steps, and the lines printed from them.

    They stay on the device from one printed line to the next: reading a value makes the CPU wait for all work that
    is queued there, and a wait in every step leaves a GPU idle between steps. Iterations are those of the whole run and
    count from 1; the epoch's start at ``first_iteration``. ``progress`` is that of the epoch so far.
    """

    def __init__(
        self,
        first_iteration: int,
        last_iteration: int,
        on_printed_line: OnPrintedLine | None = None,
        progress: EpochProgress | None = None,
    ) -> None:
        self.first_iteration = first_iteration
        self.last_iteration = last_iteration
        self.on_printed_line = on_printed_line
        self._progress = progress or EpochProgress()
        self._pending: list[StepMetrics] = []
        self._start = self._last_time = time.perf_counter()
        self._waited = 0.0
        self._steps_here = self._line_steps_here = 0  # by this process: a continued epoch has others

    @property
    def steps(self) -> int:
        """The steps of the epoch that are done."""
        return self._progress.steps + len(self._pending)

    @property
    def iteration(self) -> int:
        """The last one that is done."""
        return self.first_iteration + self.steps - 1

    def add(self, metrics: StepMetrics, waited: float) -> None:
        """Add a step and the seconds that it waited for its batch; every step has values of the same names."""
        self._pending.append(metrics)
        self._waited += waited
        self._steps_here += 1
        self._line_steps_here += 1

    def progress(self) -> EpochProgress:
        """The sums of all steps so far. Raises ``UserError`` when the loss is not finite."""
        since = self._progress.since
        since.add_steps(self._pending)
        self._pending = []
        loss = since.values.get("loss", 0.0)
        if not math.isfinite(loss):
            raise not_finite(f"the loss is {loss / since.steps}", self.iteration)
        return self._progress

    def print_line(self, rates: Metrics) -> None:
        """Print the metrics of the steps since the last line. Raises ``UserError`` when the loss is not finite."""
        progress, now = self.progress(), time.perf_counter()
        steps = self._line_steps_here
        times = {"step_seconds": (now - self._last_time) / steps, "data_seconds": self._waited / steps}
        left = (now - self._start) / self._steps_here * (self.last_iteration - self.iteration)
        progress.last_line = {**progress.since.means(rates), **times}
        progress.printed.add(progress.since)
        progress.since = Sums()
        self._waited, self._last_time, self._line_steps_here = 0.0, now, 0
        _log_line(progress.last_line, self.iteration, self.last_iteration, seconds_left=left)
        if self.on_printed_line is not None:
            self.on_printed_line(self.iteration, progress.last_line)

    def repeat_line(self) -> None:
        """Call ``on_printed_line`` again for the last line."""
        if self.on_printed_line is not None:
            self.on_printed_line(self.iteration, self._progress.last_line)

    def metrics(self) -> Metrics:
        """The metrics of all steps that lines were printed for; a collapse is named in the log."""
        rates = {name: self._progress.last_line[name] for name in ("sgd_lr", "transformer_lr")}
        means = self._progress.printed.means(rates)
        if means["predicted_share"] < MIN_PREDICTED_SHARE:
            logger.warning("COLLAPSED: %.2f%% of the pixels are predicted as object", 100 * means["predicted_share"])
        return means


def _rows(step: StepMetrics) -> Tensor:
    """(B, 5): the class of each query and its areas."""
    return torch.cat([step.classes[:, None], step.areas], dim=1)


def _scores(numbers: list[float]) -> list[EpisodeScore]:
    """The queries of ``_rows``, flattened."""
    width = 1 + len(Areas._fields)
    rows = [list(map(int, numbers[i : i + width])) for i in range(0, len(numbers), width)]
    return [EpisodeScore(slot, "", Areas(*areas)) for slot, *areas in rows]


def _shares(queries: list[EpisodeScore]) -> Metrics:
    """Predicted and true object as shares of the pixels that are not ignored, 0..1."""
    total = EpisodeMetrics(queries).total()
    pixels = max(total.pixels, 1)
    return {"predicted_share": total.predicted / pixels, "object_share": total.true / pixels}


def not_finite(what: str, iteration: int) -> UserError:
    """The mistake of a training that diverges; no checkpoint holds numbers that are not finite."""
    return UserError(
        f"{what} by iteration {iteration}; use a smaller TRAIN.base_lr or TRAIN.transformer_lr and "
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
