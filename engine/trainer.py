"""A whole training run: epochs, validation, checkpoints, and going on where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from tensorboardX import SummaryWriter
from torch import nn

from engine.epoch import Batches, train_one_epoch
from engine.optimizers import Optimizers
from engine.run_folder import BEST, LATEST, append_epoch, checkpoint_origin, save_checkpoint
from engine.schedule import sgd_lr
from model.checkpoints import CHECKPOINT_VERSION
from model.loss import dice_loss
from util.config import Config
from util.logging import logger
from util.seed import seed_everything


@dataclass
class Trainer:
    """``batches(epoch)`` gives an epoch's batches, all epochs having ``steps`` of them; ``validate()`` the mIoU of the
    model as it is, 0..1, or None; ``label_use`` goes into every checkpoint, so that a result can say what it cost.
    """

    config: Config
    model: nn.Module
    optimizers: Optimizers
    device: torch.device
    batches: Callable[[int], Batches]
    steps: int
    validate: Callable[[], float] | None
    label_use: str
    finished_epochs: int = 0
    best_miou: float = -1.0

    def resume(self, checkpoint: dict[str, Any]) -> None:
        """Take up the state that ``checkpoint`` holds."""
        self.model.load_state_dict(checkpoint["model"])
        self.optimizers.load_state_dict(checkpoint["optimizers"])
        self.finished_epochs, self.best_miou = checkpoint["epoch"], checkpoint["best_miou"]

    def run(self) -> None:
        """Train to the last epoch, leaving ``latest.pth``, and ``best.pth`` where that is asked for."""
        settings = self.config.TRAIN
        with SummaryWriter(str(self.config.run_folder / "tensorboard")) as writer:
            while self.finished_epochs < settings.epochs:
                record = self._run_epoch(self.finished_epochs)
                self.finished_epochs += 1
                self._keep(record)
                for name, value in record.items():
                    writer.add_scalar(f"train/{name}", value, self.finished_epochs)

    def _run_epoch(self, epoch: int) -> dict[str, Any]:
        """Train for the epoch numbered from 0, validate, and say how it went."""
        settings = self.config.TRAIN
        seed_everything(settings.manual_seed, "epoch", epoch)
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
        )
        record: dict[str, Any] = {"epoch": epoch + 1, **metrics}
        if self.validate is not None:
            seed_everything(settings.manual_seed, "test")
            record["validation_miou"] = self.validate()
            logger.info("epoch %d  validation mIoU %.2f", epoch + 1, 100 * record["validation_miou"])
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

    def _keep(self, record: dict[str, Any]) -> None:
        """Log the epoch and write the checkpoints that are due."""
        append_epoch(self.config, record)
        miou = record.get("validation_miou", -1.0)
        improved = miou > self.best_miou
        self.best_miou = max(self.best_miou, miou)
        settings = self.config.TRAIN
        if self.finished_epochs % settings.save_freq == 0 or self.finished_epochs == settings.epochs:
            save_checkpoint(self.config.run_folder / LATEST, self._checkpoint())
        if improved and settings.best_on_validation:
            chosen = f"{self.label_use}; chosen by the labels of {self.config.DATA.val_list.name}"
            save_checkpoint(self.config.run_folder / BEST, {**self._checkpoint(), "label_use": chosen})

    def _checkpoint(self) -> dict[str, Any]:
        return {
            "version": CHECKPOINT_VERSION,
            "model": self.model.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "epoch": self.finished_epochs,
            "best_miou": self.best_miou,
            "label_use": self.label_use,
            **checkpoint_origin(self.config),
        }
