"""The folder of a run: its configuration, checkpoints and logs, and whether a command may continue it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from util.config import Config, save_config
from util.environment import describe_environment
from util.errors import UserError
from util.files import write_text
from util.settings import differences
from util.tensor_files import write_torch_file

LATEST = "latest.pth"
BEST = "best.pth"
EPOCHS = "epochs.jsonl"
# Keys that may differ when a run is continued: neither episodes nor weights depend on them.
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
    """Write the configuration into the run folder, or check that the one it holds is the same.

    ``copies`` maps names in the run folder to files that an unsupervised run copies, where they exist: the measured
    quality of its pseudo masks. Raises ``UserError`` that names every key in which the folder's run differs.
    """
    path = config.run_folder / "config.yaml"
    if path.is_file():
        different = differences(yaml.safe_load(path.read_text(encoding="utf-8")), _decisive_settings(config))
        if different:
            raise UserError(
                f"{config.run_folder} holds a run with another configuration ({'; '.join(different)}); "
                "set TRAIN.save_path to another folder, or delete this one"
            )
    save_config(config, path)
    for name, source in copies.items():
        if config.unsupervised and source.is_file():
            write_text(config.run_folder / name, source.read_text(encoding="utf-8"))


def interrupted_run(config: Config) -> Path | None:
    """The checkpoint to continue from: ``TRAIN.resume``, else the run folder's latest; None where there is none."""
    resume = config.TRAIN.resume
    if resume is not None and not resume.is_file():
        raise UserError(f"TRAIN.resume={resume}: checkpoint not found; leave the key empty to start from the beginning")
    latest = resume or config.run_folder / LATEST
    return latest if latest.is_file() else None


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write tensors and plain values atomically, readable with ``weights_only=True``."""
    write_torch_file(path, checkpoint)


def checkpoint_origin(config: Config) -> dict[str, Any]:
    """The origin that a checkpoint records: the resolved configuration and the versions of the software."""
    return {"config": config.model_dump(mode="json"), "environment": json.loads(json.dumps(describe_environment()))}


def _decisive_settings(config: Config) -> dict[str, Any]:
    """The settings that episodes or weights depend on."""
    return {
        section: {key: value for key, value in settings.items() if key not in _FREE_KEYS.get(section, set())}
        for section, settings in config.model_dump(mode="json").items()
        if isinstance(settings, dict)
    }
