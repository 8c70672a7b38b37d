"""Trained networks: reading checkpoints, and the network in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.fss_network import FSSModel
from model.hub import WEIGHTS_FILE
from model.weights import read_weights
from model.weights.tensor_names import describe, named_tensors
from util.errors import UserError
from util.files import digest_file

# 2: batch norm is folded into the backbone's convolutions.
CHECKPOINT_VERSION = 2


def load_model(path: Path | str) -> FSSModel:
    """The network of a checkpoint or of a shared folder, backbone included, in evaluation mode on the CPU.

    Raises ``UserError``.
    """
    path = Path(path)
    if path.is_dir():
        return FSSModel.from_pretrained(path)
    checkpoint = read_checkpoint(path)
    model = FSSModel.from_settings(checkpoint["config"]["TRAIN"], backbone_weights=None)
    model.load_state_dict(checkpoint["model"])
    return model.eval()


def provenance(path: Path) -> dict[str, str]:
    """What is known of where the network of a checkpoint or of a shared folder comes from, for the record of a test."""
    if path.is_dir():
        return {"checkpoint": _digested(path / WEIGHTS_FILE), "trained": "unknown", "label_use": "unknown"}
    checkpoint = read_checkpoint(path)
    config = checkpoint["config"]
    return {
        "checkpoint": _digested(path),
        "trained": f"{config['dataset']} {config['experiment']}, {checkpoint['epoch']} epochs",
        "label_use": checkpoint["label_use"],
        "novel_images": "dropped" if config.get("DATA", {}).get("drop_novel_images") else "kept",
    }


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this project: ``version``, ``config``, ``model``, what training needs. ``UserError``."""
    checkpoint = read_weights(path)
    version = checkpoint.get("version")
    if version == CHECKPOINT_VERSION:
        return checkpoint
    if isinstance(version, int):
        raise UserError(
            f"{path}: a checkpoint of format {version}, this software reads format {CHECKPOINT_VERSION}; "
            "train it again, or use the version that wrote it"
        )
    raise UserError(
        f"{path}: not a checkpoint of this software but {describe(named_tensors(checkpoint))}; "
        "for a checkpoint of the published code: python -m model.import_published IN.pth OUT.pth"
    )


def _digested(path: Path) -> str:
    return f"{path} ({digest_file(path)[:12]})"
