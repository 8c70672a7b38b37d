"""One epoch of training, and what it reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine.evaluate import predict
from engine.optimizers import Optimizers
from util.errors import UserError
from util.logging import logger

# An epoch that predicts a smaller share of object than this has collapsed to background.
COLLAPSED_SHARE = 0.001

Loss = Callable[[Tensor, Tensor], Tensor]


class Batches(Sized, Protocol):
    """Batches of episodes with a known number of them."""

    def __iter__(self) -> Any: ...


@dataclass
class EpochSummary:
    """Means over the steps of an epoch; shares are of all pixels that count, 0..1."""

    loss: float = 0.0
    predicted_share: float = 0.0
    object_share: float = 0.0
    margin: float = 0.0
    sgd_lr: float = 0.0
    transformer_lr: float = 0.0


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
) -> EpochSummary:
    """Run through ``batches`` once.

    ``sgd_lr(iteration)`` is the rate of the SGD part; iterations of the whole run count from 1, this epoch's from
    ``first_iteration``. Raises ``UserError`` when the loss is no longer finite.
    """
    model.train()
    sums = EpochSummary()
    start = time.perf_counter()
    steps = 0
    for steps, batch in enumerate(batches, start=1):
        iteration = first_iteration + steps - 1
        rate = sgd_lr(iteration)
        optimizers.set_sgd_lr(rate)
        target = batch["query_mask"].to(device, non_blocking=True)
        logits = predict(model, batch, device)
        value = loss(logits, target)
        if not torch.isfinite(value):
            raise UserError(
                f"the loss is {float(value)} at iteration {iteration}; the last checkpoint is whole: "
                "start again from it with a smaller TRAIN.base_lr or TRAIN.transformer_lr"
            )
        optimizers.zero_grad()
        value.backward()
        optimizers.step()
        _add(sums, value.detach(), logits.detach(), target)
        if steps % print_freq == 0 or steps == len(batches):
            seconds = (time.perf_counter() - start) / steps
            _log_step(sums, steps, iteration, last_iteration, rate, optimizers.transformer_lr, seconds)
    return _mean(sums, steps, sgd_lr(first_iteration + steps - 1), optimizers.transformer_lr)


def _add(sums: EpochSummary, value: Tensor, logits: Tensor, target: Tensor) -> None:
    counted = target != 255
    pixels = float(counted.sum().clamp(min=1))
    difference = logits[:, 1] - logits[:, 0]
    sums.loss += float(value)
    sums.predicted_share += float(((difference > 0) & counted).sum()) / pixels
    sums.object_share += float((target == 1).sum()) / pixels
    sums.margin += float(difference.abs().mean())


def _log_step(
    sums: EpochSummary, steps: int, iteration: int, last: int, sgd_lr: float, transformer_lr: float, seconds: float
) -> None:
    left = seconds * (last - iteration)
    logger.info(
        "iteration %d/%d  loss %.4f  predicted object %.1f%% (true %.1f%%)  margin %.2f  lr sgd %.5f adamw %.5f  "
        "%.2f s/it  left %s",
        iteration,
        last,
        sums.loss / steps,
        100 * sums.predicted_share / steps,
        100 * sums.object_share / steps,
        sums.margin / steps,
        sgd_lr,
        transformer_lr,
        seconds,
        time.strftime("%H:%M:%S", time.gmtime(left)),
    )


def _mean(sums: EpochSummary, steps: int, sgd_lr: float, transformer_lr: float) -> EpochSummary:
    mean = EpochSummary(
        loss=sums.loss / steps,
        predicted_share=sums.predicted_share / steps,
        object_share=sums.object_share / steps,
        margin=sums.margin / steps,
        sgd_lr=sgd_lr,
        transformer_lr=transformer_lr,
    )
    if mean.predicted_share < COLLAPSED_SHARE:
        logger.warning("COLLAPSED: %.2f%% of the pixels are predicted as object", 100 * mean.predicted_share)
    return mean
