"""A whole training run: epochs, validation, checkpoints, TensorBoard, and continuing after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from tensorboardX import SummaryWriter
from torch import nn

from engine.epoch import Batches, Metrics, train_one_epoch
from engine.gallery import episode_picture
from engine.optimizers import Optimizers
from engine.run_folder import BEST, EPOCHS, LATEST, checkpoint_origin, save_checkpoint
from engine.schedule import sgd_lr
from model.checkpoints import CHECKPOINT_VERSION
from model.fss_network import NetworkSettings
from model.loss import dice_loss
from model.weights import load_all
from util.config import Config
from util.device import memory_for
from util.files import replace_json_line
from util.logging import logger
from util.seed import seed_everything


@dataclass
class Trainer:
    """A run of training: what it trains, on what, and how far it has come.

    ``batches(epoch)`` returns an epoch's batches, ``steps`` of them in every epoch. ``validate()`` returns the metrics
    of the model as it is (``EpisodeMetrics.means``). ``picture_batch()`` returns a batch whose first episode is drawn
    at every checkpoint. Both are optional. ``label_use`` states which labels the weights depend on, ``training_data``
    holds the digests of what they are trained on; every checkpoint holds both.
    """

    config: Config
    model: nn.Module
    optimizers: Optimizers
    device: torch.device
    batches: Callable[[int], Batches]
    steps: int
    validate: Callable[[], Metrics] | None
    picture_batch: Callable[[], Mapping[str, Any]] | None
    label_use: str
    training_data: Mapping[str, str]
    finished_epochs: int = 0
    best_miou: float = -1.0

    def resume(self, checkpoint: dict[str, Any]) -> None:
        """Take over the state that ``checkpoint`` holds; raises ``UserError`` where it is not of this training."""
        source = self.config.TRAIN.resume or self.config.run_folder / LATEST
        load_all(self.model, checkpoint["model"], source)
        self.optimizers.load_stored(checkpoint.get("optimizers", {}), source)
        self.finished_epochs, self.best_miou = checkpoint["epoch"], checkpoint.get("best_miou", -1.0)
        best = self.config.run_folder / BEST
        if self.config.TRAIN.best_on_validation and self.best_miou >= 0 and not best.is_file():
            logger.warning("%s is missing: only epochs that are still trained can become it", best)
            self.best_miou = -1.0

    @property
    def finished(self) -> bool:
        return self.finished_epochs >= self.config.TRAIN.epochs

    def run(self) -> None:
        """Train to the last epoch; writes ``latest.pth``, with ``TRAIN.best_on_validation`` also ``best.pth``.

        Nothing is written where no epoch is left.
        """
        if self.finished:
            return
        # TensorBoard drops the points of an interrupted run from the first iteration that is repeated.
        folder, repeated_from = self.config.run_folder / "tensorboard", self.finished_epochs * self.steps + 1
        # The suffix keeps a run that resumes within the same second from overwriting the file of the first one.
        with SummaryWriter(str(folder), purge_step=repeated_from, filename_suffix=f".{repeated_from}") as writer:
            while not self.finished:
                record = self._run_epoch(self.finished_epochs, writer)
                self.finished_epochs += 1
                self._keep(record, writer)

    def _run_epoch(self, epoch: int, writer: SummaryWriter) -> dict[str, Any]:
        """Train for the epoch numbered from 0 and validate; returns the epoch's metrics."""
        settings = self.config.TRAIN

        def add_scalars(iteration: int, metrics: Metrics) -> None:
            for name, value in metrics.items():
                writer.add_scalar(f"train/{name}", value, iteration)

        seed_everything(settings.manual_seed, "epoch", epoch)
        with memory_for("TRAIN.batch_size, or TRAIN.train_h and TRAIN.train_w"):
            metrics = train_one_epoch(
                self.model,
                self.batches(epoch),
                loss=partial(dice_loss, ignore_index=None if self.config.published else settings.ignore_label),
                optimizers=self.optimizers,
                sgd_lr=self._sgd_lr,
                first_iteration=epoch * self.steps + 1,
                last_iteration=settings.epochs * self.steps,
                device=self.device,
                print_freq=settings.print_freq,
                on_printed_line=add_scalars,
            )
        record: dict[str, Any] = {"epoch": epoch + 1, **metrics}
        if self.validate is not None:
            seed_everything(settings.manual_seed, "test")
            validation = self.validate()
            for name, value in validation.items():
                record[f"validation_{name}"] = value
                writer.add_scalar(f"validation/{name}", value, (epoch + 1) * self.steps)
            logger.info(
                "epoch %d  validation mIoU %.2f  FB-IoU %.2f  accuracy %.2f",
                *(epoch + 1, *(100 * validation[name] for name in ("miou", "fb_iou", "accuracy"))),
            )
        return record

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

    def _keep(self, record: dict[str, Any], writer: SummaryWriter) -> None:
        """Log the epoch and write the checkpoints that are due, with a picture for TensorBoard."""
        replace_json_line(self.config.run_folder / EPOCHS, record)
        settings, miou = self.config.TRAIN, record.get("validation_miou", -1.0)
        is_best = settings.best_on_validation and miou > self.best_miou
        self.best_miou = max(self.best_miou, miou)
        is_due = self.finished_epochs % settings.save_freq == 0 or self.finished_epochs == settings.epochs
        if self.picture_batch is not None and (is_due or is_best):
            picture = episode_picture(self.model, self.picture_batch(), self.device)
            writer.add_image("episode", picture, self.finished_epochs * self.steps, dataformats="HWC")
        if is_best:  # before the latest, which ends the epoch: a run that is killed in between repeats it
            chosen = f"{self.label_use}; chosen by the labels of {self.config.DATA.val_list.name}"
            save_checkpoint(self.config.run_folder / BEST, {**self._checkpoint(), "label_use": chosen})
        if is_due:
            writer.flush()  # a run that is killed from here on resumes after these points and would not repeat them
            save_checkpoint(self.config.run_folder / LATEST, self._checkpoint())

    def _checkpoint(self) -> dict[str, Any]:
        return {
            "version": CHECKPOINT_VERSION,
            "network": NetworkSettings.configured(self.config.TRAIN).model_dump(mode="json"),
            "model": self.model.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "epoch": self.finished_epochs,
            "best_miou": self.best_miou,
            "label_use": self.label_use,
            "training_data": dict(self.training_data),
            **checkpoint_origin(self.config),
        }
