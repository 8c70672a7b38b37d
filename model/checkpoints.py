"""Trained networks: reading checkpoints, and building the network that one holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.fss_network import FSSModel, NetworkSettings
from model.hub import WEIGHTS_FILE
from model.weights import read_weights
from model.weights.tensor_names import describe_tensors, named_tensors
from util.errors import UserError
from util.files import digest_file
from util.settings import require_same

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
    return FSSModel.from_stored(checkpoint["network"], checkpoint["model"], path)


def load_weights(model: FSSModel, checkpoint: Mapping[str, Any], path: Path) -> None:
    """Load the tensors of a checkpoint into a network that must be the same except for the size of its images.

    Raises ``UserError`` that names every setting that differs.
    """
    assert model.settings is not None  # it was built from a configuration
    stored = NetworkSettings.stored(checkpoint["network"], path)
    may_differ = {"val_size"}
    require_same(
        path,
        stored.model_dump(mode="json", exclude=may_differ),
        model.settings.model_dump(mode="json", exclude=may_differ),
        advice="give the configuration the same values of TRAIN, or another TRAIN.weight",
    )
    model.load_stored(checkpoint["model"], path)


def provenance(path: Path) -> dict[str, str]:
    """The known origin of the network in a checkpoint or a shared folder, for the protocol of a test."""
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
    """A checkpoint of this project: ``version``, ``network``, ``config``, ``model`` and what training needs.

    Raises ``UserError`` for anything else.
    """
    checkpoint = read_weights(path)
    version = checkpoint.get("version")
    if version == CHECKPOINT_VERSION:
        # Checkpoints without the settings of their network have them among those of their training.
        train = checkpoint["config"]["TRAIN"]
        named = {name: train[name] for name in NetworkSettings.model_fields if name in train}
        return {"network": named, **checkpoint}
    if isinstance(version, int):
        raise UserError(
            f"{path}: a checkpoint of format {version}, this software reads format {CHECKPOINT_VERSION}; "
            "train it again, or use the version that wrote it"
        )
    raise UserError(
        f"{path}: not a checkpoint of this software but {describe_tensors(named_tensors(checkpoint))}; "
        "for a checkpoint of the published code: python -m model.import_published IN.pth OUT.pth"
    )


def _digested(path: Path) -> str:
    return f"{path} ({digest_file(path)[:12]})"
