"""MoCo-v2 training of a backbone on unlabelled images; an interrupted run continues to the same weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from masks.pretrain.moco import Encoder, MoCo
from masks.pretrain.options import Settings
from masks.pretrain.run_state import PretrainFiles
from masks.pretrain.unlabelled_images import open_images
from masks.pretrain.views import TwoViews, ViewLoader
from util.device import memory_for
from util.distributed import (
    average_gradients,
    average_statistics,
    only_group_in,
    own_device,
    own_workers,
    rank,
    world_size,
)
from util.errors import UserError
from util.files import digest_lines
from util.logging import logger
from util.seed import seed_everything

if TYPE_CHECKING:
    from masks.pretrain.probe import Probe  # its scikit-learn takes a second to import

_MOMENTUM = 0.99
_TEMPERATURE = 0.2
_WEIGHT_DECAY = 1e-4


def check_settings(settings: Settings) -> None:
    """Raise ``UserError`` for a model that timm lacks and a batch that the processes cannot share."""
    if not timm.is_model(settings.model):
        raise UserError(f"--model {settings.model}: timm has no such model; timm.list_models() gives the names")
    processes = world_size()
    if settings.batch % processes or settings.batch < 2 * processes:
        raise UserError(
            f"--batch {settings.batch}: {processes} processes need a multiple of {processes}, at least {2 * processes}"
        )


def pretrain(paths: Sequence[Path], out: Path, settings: Settings, *, workers: int, probe: Probe | None = None) -> None:
    """Train on ``paths`` and write the backbone to ``out`` (safetensors, atomically).

    After every epoch the state goes to ``OUT.partial.pth``, from where the next call continues. Does nothing when
    ``out`` is the result of the same settings and images. ``workers`` are a machine's, not a process's; ``probe``
    measures the backbone between epochs and changes nothing. Raises ``UserError`` when a file was made with other
    settings or images, an image is unreadable, there are fewer images than a batch holds, the loss is not finite, or
    another process makes ``out``.
    """
    if len(paths) < settings.batch:
        raise UserError(f"{len(paths)} images are fewer than a batch of {settings.batch}; give more or a lower --batch")
    device = own_device()
    files = PretrainFiles(out, _record(paths, settings, device))
    if files.is_finished():
        return
    with only_group_in(out.parent, lock=f".{out.name}.lock"):
        _train(paths, files, settings, device, workers=workers, probe=probe)


def cosine_lr(base_lr: float, step: int, steps: int) -> float:
    """Learning rate of ``step`` (from 0) among ``steps``: half a cosine from ``base_lr`` towards 0."""
    return base_lr * 0.5 * (1 + math.cos(math.pi * step / steps))


def _train(
    paths: Sequence[Path],
    files: PretrainFiles,
    settings: Settings,
    device: torch.device,
    *,
    workers: int,
    probe: Probe | None,
) -> None:
    """Train from where the files end."""
    seed_everything(settings.seed, "pretrain")
    moco = _build(settings, images=len(paths)).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        moco.query_encoder.parameters(), lr=settings.lr, momentum=0.9, weight_decay=_WEIGHT_DECAY
    )
    first = files.resume(moco, optimizer)
    if probe is not None and first == 0:
        probe.measure(moco.query_encoder.backbone, epoch=0)
    views = TwoViews(open_images(paths, 2 * settings.size), size=settings.size, seed=settings.seed)
    for epoch in range(first, settings.epochs):
        seed_everything(settings.seed, "pretrain", epoch)
        batches = ViewLoader(views, epoch=epoch, batch=settings.batch, workers=own_workers(workers))
        with memory_for("--batch, or --size"):
            _train_epoch(moco, optimizer, batches, epoch, files.record)
        average_statistics(moco)
        if probe is not None and probe.is_due(epoch + 1, settings.epochs):
            probe.measure(moco.query_encoder.backbone, epoch=epoch + 1)
        files.save_state(moco, optimizer, epochs=epoch + 1)
    files.finish(moco.query_encoder.backbone)


def _record(paths: Sequence[Path], settings: Settings, device: torch.device) -> dict[str, Any]:
    """All that the weights depend on; each process normalises its share of a batch, so their number counts."""
    automatic = "bf16" if device.type == "cuda" else "fp32"
    precision = automatic if settings.precision == "auto" else settings.precision
    # Names and sizes distinguish two sets of images even when both are numbered from 000001.
    digest = digest_lines(f"{path.name} {path.stat().st_size}" for path in paths)
    images = {"images": len(paths), "dataset_digest": digest}
    return {**asdict(settings), "precision": precision, "processes": world_size(), **images}


def _build(settings: Settings, images: int) -> MoCo:
    try:
        backbone: Any = timm.create_model(settings.model, features_only=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise UserError(f"--model {settings.model}: it gives no feature maps ({error}); choose another model") from None
    # A queue longer than the data would hold older keys of the query image itself, as wrong answers.
    queue = max(settings.batch, min(settings.queue, images // 2))
    if queue != settings.queue:
        logger.info("queue: %d keys instead of %d, half as many as there are images", queue, settings.queue)
    encoder = Encoder(backbone, channels=backbone.feature_info.channels())
    return MoCo(encoder, queue=queue, momentum=_MOMENTUM, temperature=_TEMPERATURE)


def _train_epoch(
    moco: MoCo, optimizer: torch.optim.Optimizer, batches: ViewLoader, epoch: int, record: Mapping[str, Any]
) -> None:
    moco.train()
    losses, hits = [], []
    title = f"epoch {epoch + 1}/{record['epochs']}"
    with tqdm(batches, desc=title, unit="step", disable=rank() > 0) as progress:
        for step, views in enumerate(progress, start=epoch * len(batches)):
            for group in optimizer.param_groups:
                group["lr"] = cosine_lr(record["lr"], step, record["epochs"] * len(batches))
            loss, hit = _train_step(moco, optimizer, views.to(moco.queue.device), record["precision"])
            losses.append(loss)
            hits.append(hit)
            progress.set_postfix(loss=f"{np.mean(losses):.3f}", accuracy=f"{100 * np.mean(hits):.1f}%")


def _train_step(moco: MoCo, optimizer: torch.optim.Optimizer, views: Tensor, precision: str) -> tuple[float, float]:
    """One update with ``views`` (B, 2, H, W, 3); returns the loss and the share of images that found themselves."""
    with torch.autocast(views.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = moco(views[:, 0], views[:, 1])
    loss = functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
    if not torch.isfinite(loss):
        raise UserError(f"the loss is {loss.item()}; delete the .partial.pth file and start again with a lower --lr")
    optimizer.zero_grad()
    loss.backward()
    average_gradients(moco.query_encoder.parameters())
    optimizer.step()
    return loss.item(), (logits.argmax(dim=1) == 0).float().mean().item()
