"""A training of a few steps: an untrained small network, epochs of three steps, random pictures as episodes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from engine.optimizers import build_optimizers
from engine.trainer import Trainer
from tests.model.networks import random_episode, tiny_model
from util.config import Config, load_config

STEPS = 3
DIGESTS = {"pseudo_masks": "0123456789ab"}


def small_config(folder: Path, *overrides: str) -> Config:
    """A line of the log after the second and the third step, a checkpoint after every epoch."""
    return load_config(
        "shapes", "ssl_demo", [f"TRAIN.save_path={folder}", "TRAIN.print_freq=2", "TRAIN.save_freq=1", *overrides]
    )


def training_batch() -> dict[str, Tensor]:
    query, supports, masks = random_episode()
    return {
        "query_image": query,
        "query_mask": masks[:, 0],
        "query_padding": torch.zeros(masks[:, 0].shape, dtype=torch.bool),
        "support_images": supports,
        "support_masks": masks,
        "support_padding": torch.zeros(masks.shape, dtype=torch.bool),
        "class_id": torch.arange(len(query)),
    }


def small_trainer(folder: Path, *overrides: str, pictures: bool = True, validate: bool = False) -> Trainer:
    model = tiny_model()
    return Trainer(
        config=small_config(folder, *overrides),
        model=model,
        optimizers=build_optimizers(
            model, base_lr=0.002, momentum=0.9, weight_decay=1e-4, transformer_lr=1e-4, transformer_weight_decay=0.01
        ),
        device=torch.device("cpu"),
        batches=lambda epoch, first: [training_batch()] * (STEPS - first),
        steps=STEPS,
        validate=(lambda: {"miou": 0.5, "fb_iou": 0.6, "accuracy": 0.7}) if validate else None,
        picture_batch=training_batch if pictures else None,
        label_use="none",
        training_data=DIGESTS,
    )
