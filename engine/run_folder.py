"""The folder of a run: its configuration, checkpoints and logs, and whether a command may continue it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from util.config import Config, save_config
from util.environment import describe
from util.errors import UserError
from util.files import atomic_write, write_text
from util.settings import differences

LATEST = "latest.pth"
BEST = "best.pth"
EPOCHS = "epochs.jsonl"
# Keys that may differ when a run goes on: they change neither episodes nor weights.
_FREE_KEYS = {
    "TRAIN": {
        "workers", "print_freq", "save_freq", "train_gpu", "save_path", "resume", "evaluate", "best_on_validation",
        "batch_size_val", "episodes", "val_size",
    },
    "DATA": {"data_root", "val_list"},
    "Cluster": {"threads"},
    "VIS": {"visualize", "pictures"},
}  # fmt: skip


def open_run_folder(config: Config, *, copies: Mapping[str, Path]) -> None:
    """Write the configuration into the run folder, or see that the one there is the same.

    ``copies`` names files that an unsupervised run keeps beside it, where they exist: what its pseudo masks were worth.
    Raises ``UserError`` naming every key in which a run already there differs.
    """
    path = config.run_folder / "config.yaml"
    if path.is_file():
        different = differences(yaml.safe_load(path.read_text(encoding="utf-8")), _binding(config))
        if different:
            raise UserError(
                f"{config.run_folder} holds a run with another configuration ({'; '.join(different)}); "
                "give TRAIN.save_path another folder, or delete this one"
            )
    save_config(config, path)
    for name, source in copies.items():
        if config.unsupervised and source.is_file():
            write_text(config.run_folder / name, source.read_text(encoding="utf-8"))


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write tensors and plain values atomically, readable with ``weights_only=True``."""
    with atomic_write(path) as temporary:
        torch.save(checkpoint, temporary)


def checkpoint_origin(config: Config) -> dict[str, Any]:
    """What a checkpoint says about where it comes from: the resolved config and the versions."""
    return {"config": config.model_dump(mode="json"), "environment": json.loads(json.dumps(describe()))}


def _binding(config: Config) -> dict[str, Any]:
    """The settings that episodes or weights depend on."""
    return {
        section: {key: value for key, value in settings.items() if key not in _FREE_KEYS.get(section, set())}
        for section, settings in config.model_dump(mode="json").items()
        if isinstance(settings, dict)
    }
