"""Self-supervised pretraining of a backbone on a folder of unlabelled images (MoCo-v2).

    python -m masks.pretrain IMAGES OUT.safetensors [--model mobilenetv2_050] [--epochs 200] ...

The result opens with ``timm.create_model(MODEL, features_only=True, output_stride=8)``, for use as
``TRAIN.backbone_weights`` or ``Cluster.extractor_weights``; its images were normalised with ImageNet's mean and
deviation. An interrupted run continues when the same command is typed again.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from masks.gallery import find_images, open_images
from masks.moco import Encoder, MoCo
from masks.views import TwoViews, ViewLoader
from util.errors import UserError, run_command
from util.files import atomic_write, digest_lines
from util.logging import logger, start_logging
from util.seed import seed_everything

_MOMENTUM = 0.99
_TEMPERATURE = 0.2
_WEIGHT_DECAY = 1e-4


@dataclass(frozen=True)
class Settings:
    """What the weights are a function of, together with the images; a resumed run must have the same."""

    model: str = "mobilenetv2_050"
    epochs: int = 200
    batch: int = 64
    size: int = 96
    queue: int = 4096
    lr: float = 0.06
    seed: int = 0

    def check(self) -> None:
        """Raise ``UserError`` for a value that cannot work."""
        if not timm.is_model(self.model):
            raise UserError(f"--model {self.model}: timm has no such model; timm.list_models() gives the names")
        for name, least in (("epochs", 1), ("batch", 2), ("size", 32), ("queue", 1)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} {getattr(self, name)}: must be at least {least}")
        if not self.lr > 0:
            raise UserError(f"--lr {self.lr}: must be above 0")


def main(arguments: list[str]) -> None:
    """The command ``python -m masks.pretrain``."""
    parsed = _parse(arguments)
    start_logging()
    settings = Settings(**{name: getattr(parsed, name) for name in asdict(Settings())})
    settings.check()
    pretrain(find_images(parsed.images, parsed.root), parsed.out, settings, workers=parsed.workers)


def pretrain(paths: Sequence[Path], out: Path, settings: Settings, *, workers: int) -> None:
    """Train on ``paths`` and write the backbone to ``out`` (safetensors, atomically).

    After every epoch the state goes to ``OUT.partial.pth``, from where the next call continues. Does nothing when
    ``out`` is the result of the same settings and images. Raises ``UserError`` when a file is of other ones, an
    image is unreadable, there are fewer images than a batch holds, or the loss is not finite.
    """
    if len(paths) < settings.batch:
        raise UserError(f"{len(paths)} images are fewer than a batch of {settings.batch}; give more or a lower --batch")
    record = {**asdict(settings), "images": len(paths), "dataset_digest": _digest(paths)}
    if out.exists():
        _check_record(out, _read_record(out), record)
        logger.info("%s is already the result of this command", out)
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    seed_everything(settings.seed, "pretrain")
    moco = _build(settings, images=len(paths)).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        moco.query_encoder.parameters(), lr=settings.lr, momentum=0.9, weight_decay=_WEIGHT_DECAY
    )
    partial = out.with_suffix(".partial.pth")
    first = _resume(partial, record, moco, optimizer, device) if partial.exists() else 0
    views = TwoViews(open_images(paths, shorter_side=2 * settings.size), size=settings.size, seed=settings.seed)
    for epoch in range(first, settings.epochs):
        seed_everything(settings.seed, "pretrain", epoch)
        batches = ViewLoader(views, epoch=epoch, batch=settings.batch, workers=workers)
        _train_epoch(moco, optimizer, batches, epoch, settings)
        with atomic_write(partial) as temporary:
            state = {"epochs": epoch + 1, "moco": moco.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({"record": record, **state}, temporary)
    _export(out, moco.query_encoder.backbone, record)
    partial.unlink(missing_ok=True)
    logger.info("wrote %s", out)


def cosine_lr(base_lr: float, step: int, steps: int) -> float:
    """Learning rate of ``step`` (from 0) among ``steps``: half a cosine from ``base_lr`` towards 0."""
    return base_lr * 0.5 * (1 + math.cos(math.pi * step / steps))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m masks.pretrain", description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="folder of images (searched to any depth) or list file")
    parser.add_argument("out", type=Path, help="the weights, OUT.safetensors")
    parser.add_argument("--root", type=Path, help="where the paths of a list file start")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw views")
    for name, default in asdict(Settings()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help="default: %(default)s")
    return parser.parse_args(arguments)


def _digest(paths: Sequence[Path]) -> str:
    """Names and sizes tell two sets of images apart, also when both count from 000001."""
    return digest_lines(f"{path.name} {path.stat().st_size}" for path in paths)


def _check_record(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    different = [f"{name} {found.get(name)}, not {value}" for name, value in wanted.items() if found.get(name) != value]
    if different:
        raise UserError(f"{path}: made with {'; '.join(different)}; delete it or give the settings it was made with")


def _read_record(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as weights:
            record: dict[str, Any] = json.loads((weights.metadata() or {})["record"])
    except (safetensors.SafetensorError, KeyError, json.JSONDecodeError):
        raise UserError(f"{path}: exists and was not made by this command; delete it or name another file") from None
    return record


def _build(settings: Settings, images: int) -> MoCo:
    try:
        backbone: Any = timm.create_model(settings.model, features_only=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise UserError(f"--model {settings.model}: no feature maps to be had ({error}); take another") from None
    # A queue longer than the data would hold older keys of the very image that is looked for, as wrong answers.
    queue = max(settings.batch, min(settings.queue, images // 2))
    if queue != settings.queue:
        logger.info("queue: %d keys instead of %d, half as many as there are images", queue, settings.queue)
    encoder = Encoder(backbone, channels=backbone.feature_info.channels())
    return MoCo(encoder, queue=queue, momentum=_MOMENTUM, temperature=_TEMPERATURE)


def _resume(
    partial: Path, record: dict[str, Any], moco: MoCo, optimizer: torch.optim.Optimizer, device: torch.device
) -> int:
    """Load the state of an interrupted run; returns the number of epochs it has done."""
    state = torch.load(partial, map_location=device, weights_only=True)
    _check_record(partial, state["record"], record)
    moco.load_state_dict(state["moco"])
    optimizer.load_state_dict(state["optimizer"])
    logger.info("continuing after epoch %d of %d", state["epochs"], record["epochs"])
    return int(state["epochs"])


def _train_epoch(
    moco: MoCo, optimizer: torch.optim.Optimizer, batches: ViewLoader, epoch: int, settings: Settings
) -> None:
    moco.train()
    losses, hits = [], []
    with tqdm(batches, desc=f"epoch {epoch + 1}/{settings.epochs}", unit="step") as progress:
        for step, views in enumerate(progress, start=epoch * len(batches)):
            for group in optimizer.param_groups:
                group["lr"] = cosine_lr(settings.lr, step, settings.epochs * len(batches))
            loss, hit = _train_step(moco, optimizer, views.to(moco.queue.device))
            losses.append(loss)
            hits.append(hit)
            progress.set_postfix(loss=f"{np.mean(losses):.3f}", accuracy=f"{100 * np.mean(hits):.1f}%")


def _train_step(moco: MoCo, optimizer: torch.optim.Optimizer, views: Tensor) -> tuple[float, float]:
    """One update with ``views`` (B, 2, H, W, 3); returns the loss and the share of images that found themselves."""
    logits = moco(views[:, 0], views[:, 1])
    loss = functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
    if not torch.isfinite(loss):
        raise UserError(f"the loss is {loss.item()}; delete the .partial.pth file and start again with a lower --lr")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item(), (logits.argmax(dim=1) == 0).float().mean().item()


def _export(out: Path, backbone: nn.Module, record: dict[str, Any]) -> None:
    weights = {name: tensor.cpu().contiguous() for name, tensor in backbone.state_dict().items()}
    software = f"torch {torch.__version__}, timm {timm.__version__}"
    metadata = {"format": "pt", "normalize": "imagenet", "record": json.dumps(record), "software": software}
    with atomic_write(out) as temporary:
        safetensors.torch.save_file(weights, temporary, metadata=metadata)


if __name__ == "__main__":
    run_command(main)
