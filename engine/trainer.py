"""A whole training run: epochs, validation, checkpoints, TensorBoard, and continuing after an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.compilation import compiled
from engine.epoch import Batches, Computation, train_one_epoch
from engine.epoch_report import EpochReport, Metrics
from engine.event_file import EventFile
from engine.gallery import episode_picture
from engine.interruption import NotedSignals, noted_signals
from engine.optimizers import Optimizers
from engine.position import Position, check_finite
from engine.run_folder import BEST, EPOCHS, LATEST, checkpoint_origin, save_checkpoint, save_latest
from engine.schedule import sgd_lr
from model.checkpoints import CHECKPOINT_VERSION
from model.fss_network import NetworkSettings, with_calibration
from model.loss import dice_loss
from model.weights import load_all
from util.config import Config
from util.device import memory_for
from util.distributed import rank, wait_for_all, world_size
from util.errors import UserError
from util.files import replace_json_line
from util.logging import logger
from util.seed import generator_states, restore_generators, seed_everything


@dataclass
class Trainer:
    """A run of training: what it trains, on what, and how far it has come.

    Several processes train together: each has its equal part of every batch, and the first writes the files.

    ``batches(epoch, first)`` returns an epoch's batches from number ``first`` (from 0) on, of ``steps`` in every epoch.
    ``validate()`` returns the metrics of the model as it is (``EpisodeMetrics.means``). ``picture_batch()`` returns a
    batch whose first episode is drawn at the end of every epoch that is saved. Both are optional. ``label_use`` states
    which labels the weights depend on, ``training_data`` holds the digests of what they are trained on; every
    checkpoint holds both. ``position`` is where the epoch after the finished ones goes on.
    """

    config: Config
    model: nn.Module
    optimizers: Optimizers
    device: torch.device
    batches: Callable[[int, int], Batches]
    steps: int
    validate: Callable[[], Metrics] | None
    picture_batch: Callable[[], Mapping[str, Any]] | None
    label_use: str
    training_data: Mapping[str, str]
    finished_epochs: int = 0
    best_miou: float = -1.0
    position: Position | None = None
    _promise: str = field(default="", init=False)
    _saved_at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._computed_model = compiled(self.model) if self.config.TRAIN.compile else self.model

    def resume(self, checkpoint: dict[str, Any]) -> None:
        """Take over the state that ``checkpoint`` holds; raises ``UserError`` where it is not of this training."""
        source = self._source
        load_all(self.model, with_calibration(checkpoint["model"]), source)
        self.optimizers.load_stored(checkpoint.get("optimizers", {}), source)
        self.finished_epochs, self.best_miou = checkpoint["epoch"], checkpoint.get("best_miou", -1.0)
        self.position = Position.stored(checkpoint.get("position"), self.steps, source)
        best = self.config.run_folder / BEST
        if self.config.TRAIN.best_on_validation and self.best_miou >= 0 and not best.is_file():
            logger.warning("%s is missing: only epochs that are still trained can become it", best)
            self.best_miou = -1.0

    @property
    def finished(self) -> bool:
        return self.finished_epochs >= self.config.TRAIN.epochs

    @property
    def steps_done(self) -> int:
        """Steps of the whole training that are done."""
        return self.finished_epochs * self.steps + (self.position.step if self.position is not None else 0)

    @property
    def _due_validation(self) -> Callable[[], Metrics] | None:
        """That of the epoch that is being trained; None where it is not validated."""
        epoch, settings = self.finished_epochs + 1, self.config.TRAIN
        return self.validate if epoch % settings.evaluate_every == 0 or epoch == settings.epochs else None

    @property
    def _network(self) -> dict[str, Any]:
        """Settings of the network: those that it has, which may be fewer than those it was asked to have."""
        own = getattr(self.model, "settings", None)
        settings = own if isinstance(own, NetworkSettings) else NetworkSettings.configured(self.config.TRAIN)
        return settings.model_dump(mode="json")

    @property
    def _source(self) -> Path:
        """The checkpoint that the run continues."""
        return self.config.TRAIN.resume or self.config.run_folder / LATEST

    @property
    def last_step(self) -> str:
        """The last step that is done, for people."""
        if self.position is not None:
            return f"step {self.position.step} of epoch {self.finished_epochs + 1}"
        return f"step {self.steps} of epoch {self.finished_epochs}"

    def run(self) -> None:
        """Train to the last epoch; writes ``latest.pth``, with ``TRAIN.best_on_validation`` also ``best.pth``.

        Nothing is written where no epoch is left. Ctrl-C and TERM end it with a checkpoint between two steps; the
        ``KeyboardInterrupt`` that it raises says what is saved.
        """
        if self.finished:
            return
        is_begun = self.position is not None or self.finished_epochs > 0
        self._promise = self._continuation() if is_begun else "nothing is saved yet; the same command begins anew"
        self._saved_at = time.monotonic()
        try:
            with noted_signals() as signals, closing(self._event_file()) as events:
                while not self.finished:
                    self._run_epoch(events, signals)
        except KeyboardInterrupt as interruption:
            raise type(interruption)(self._promise) from None

    def _event_file(self) -> EventFile:
        """TensorBoard drops the points of an interrupted run from the first iteration that is repeated.

        The last one of an epoch that is still to be validated has the same number as what follows it.
        """
        done = self.position.step if self.position is not None else 0
        first = self.finished_epochs * self.steps + min(done + 1, self.steps)
        return EventFile(self.config.run_folder / "tensorboard", first)

    def _run_epoch(self, events: EventFile, signals: NotedSignals) -> None:
        """Train for what is left of an epoch, validate, and save."""
        record: dict[str, Any] = {"epoch": self.finished_epochs + 1, **self._train(events, signals)}
        if (validate := self._due_validation) is not None:
            with signals.heeded_at_once():
                record.update(self._validate(validate, events))
        self.finished_epochs, self.position = self.finished_epochs + 1, None
        self._keep(record, events, signals)
        signals.heed()

    def _train(self, events: EventFile, signals: NotedSignals) -> Metrics:
        """Do the steps that are left of an epoch, with the checkpoints that are due; returns the epoch's metrics."""
        settings, position, first_iteration = self.config.TRAIN, self.position, self.finished_epochs * self.steps + 1

        def add_scalars(iteration: int, metrics: Metrics) -> None:
            for name, value in metrics.items():
                events.add_scalar(f"train/{name}", value, iteration)

        def save_what_is_due() -> None:
            if report.steps < self.steps and self._is_save_due(signals):  # after the last step the epoch ends
                self._save_within_epoch(report, events, signals)
                signals.heed()

        progress = position.progress if position is not None else None
        report = EpochReport(first_iteration, settings.epochs * self.steps, add_scalars, progress)
        steps_before = report.steps
        if steps_before == self.steps:
            report.repeat_line()
        seed_everything(settings.manual_seed, "epoch", self.finished_epochs)
        if position is not None:
            restore_generators(position.generators, self.device, self._source)
        with (
            memory_for("TRAIN.batch_size, TRAIN.train_h or TRAIN.train_w, or increase TRAIN.accumulate"),
            self._losing_no_step(report, events, signals),
        ):
            metrics = train_one_epoch(
                self._computed_model,
                self.batches(self.finished_epochs, steps_before),
                report,
                loss=partial(dice_loss, ignore_index=None if self.config.published else settings.ignore_label),
                optimizers=self.optimizers,
                sgd_lr=self._sgd_lr,
                computation=Computation(self.device, settings.accumulate, settings.precision == "bf16"),
                print_freq=settings.print_freq,
                after_step=save_what_is_due,
            )
        if (
            self._due_validation is not None and steps_before < self.steps
        ):  # validation takes long and may be interrupted
            self._save_within_epoch(report, events, signals)
        return metrics

    def _validate(self, validate: Callable[[], Metrics], events: EventFile) -> Metrics:
        """Returns the metrics with the names that they have in ``epochs.jsonl``."""
        seed_everything(self.config.TRAIN.manual_seed, "test")
        validation, epoch = validate(), self.finished_epochs + 1
        for name, value in validation.items():
            events.add_scalar(f"validation/{name}", value, epoch * self.steps)
        logger.info(
            "epoch %d  validation mIoU %.2f  FB-IoU %.2f  accuracy %.2f",
            *(epoch, *(100 * validation[name] for name in ("miou", "fb_iou", "accuracy"))),
        )
        return {f"validation_{name}": value for name, value in validation.items()}

    def _sgd_lr(self, iteration: int) -> float:
        settings = self.config.TRAIN
        return sgd_lr(
            settings.base_lr,
            iteration,
            settings.epochs * self.steps,
            self.steps if settings.warmup else 0,
            lr_scale=settings.lr_scale,
            power=settings.power,
        )

    def _keep(self, record: dict[str, Any], events: EventFile, signals: NotedSignals) -> None:
        """Log the epoch and write the checkpoints that are due, with a picture for TensorBoard."""
        check_finite(self.model, self.optimizers, self.finished_epochs * self.steps)
        if rank() == 0:
            replace_json_line(self.config.run_folder / EPOCHS, record)
        settings, miou = self.config.TRAIN, record.get("validation_miou", -1.0)
        is_best = settings.best_on_validation and miou > self.best_miou
        self.best_miou = max(self.best_miou, miou)
        is_due = self.finished_epochs % settings.save_freq == 0 or self.finished
        if self.picture_batch is not None and (is_due or is_best):
            picture = episode_picture(self.model, self.picture_batch(), self.device)
            events.add_picture("episode", picture, self.finished_epochs * self.steps)
        if is_best:  # before the latest, which ends the epoch: a run that is killed in between repeats it
            self._save_best()
        if is_due or self._is_save_due(signals):
            self._save(events, signals)

    def _is_save_due(self, signals: NotedSignals) -> bool:
        return signals.agree(save_due=time.monotonic() - self._saved_at >= 60 * self.config.TRAIN.save_minutes)

    def _save_within_epoch(self, report: EpochReport, events: EventFile, signals: NotedSignals) -> None:
        progress = report.progress()
        check_finite(self.model, self.optimizers, report.iteration)
        self.position = Position(
            step=report.steps, steps=self.steps, progress=progress, generators=generator_states(self.device)
        )
        self._save(events, signals)

    @contextmanager
    def _losing_no_step(self, report: EpochReport, events: EventFile, signals: NotedSignals) -> Iterator[None]:
        """Save where the reading of data fails in the block, as for an image that is no longer readable.

        Of several processes one alone meets that and cannot save.
        """
        steps_before = report.steps
        try:
            yield
        except UserError:
            if report.steps > steps_before and world_size() == 1:
                self._save_within_epoch(report, events, signals)
            raise

    def _save(self, events: EventFile, signals: NotedSignals) -> None:
        """Write the latest checkpoint; a run that is killed from here on would not repeat the points before it."""
        events.flush()
        if rank() == 0:
            save_latest(self.config.run_folder, self._checkpoint())
        wait_for_all()  # none ends before it is saved
        self._promise, self._saved_at = self._continuation(), time.monotonic()
        if signals.save_asked:
            logger.info("saved after %s", self.last_step)
            signals.save_asked = False

    def _save_best(self) -> None:
        chosen = f"{self.label_use}; chosen by the labels of {self.config.DATA.val_list.name}"
        if rank() == 0:
            save_checkpoint(self.config.run_folder / BEST, {**self._checkpoint(), "label_use": chosen})

    def _continuation(self) -> str:
        if self.finished:
            return f"all {self.finished_epochs} epochs are trained and saved"
        return f"saved after {self.last_step}; the same command continues there"

    def _checkpoint(self) -> dict[str, Any]:
        checkpoint = {
            "version": CHECKPOINT_VERSION,
            "network": self._network,
            "model": self.model.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "epoch": self.finished_epochs,
            "best_miou": self.best_miou,
            "label_use": self.label_use,
            "training_data": dict(self.training_data),
            **checkpoint_origin(self.config),
        }
        return checkpoint if self.position is None else {**checkpoint, "position": self.position.model_dump()}
