"""Trained networks: reading checkpoints, and building the network that one holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from model.fss_network import FSSModel, NetworkSettings, with_calibration
from model.hub import WEIGHTS_FILE, StoredNetwork, read_folder
from model.weights import load_all
from model.weights.tensor_names import PUBLISHED_MARK, describe_tensors, named_tensors
from util.config.published_keys import PUBLISHED
from util.errors import UserError
from util.files import digest_file
from util.settings import describe_problems, differences
from util.tensor_files import read_tensor_file

# 2: batch norm is folded into the backbone's convolutions.
CHECKPOINT_VERSION = 2


def load_model(path: Path | str) -> FSSModel:
    """The network of a checkpoint or of a shared folder, backbone included, in evaluation mode on the CPU.

    Raises ``UserError``.
    """
    return FSSModel.from_stored(read_network(Path(path)))


def load_weights(model: FSSModel, stored: StoredNetwork) -> None:
    """Load the tensors of a checkpoint into a network that must be the same except for the size of its images.

    Raises ``UserError`` with every setting that differs, and the words that would make them the same.
    """
    assert model.settings is not None  # it was built from a configuration
    settings = NetworkSettings.stored(stored.settings, stored.source)
    there, expected = (network.model_dump(mode="json", exclude={"val_size"}) for network in (settings, model.settings))
    different = differences(there, expected)
    if different:
        raise UserError(
            f"{stored.source}: made with other settings ({'; '.join(different)}); {_words(there, expected)}, "
            "or give another TRAIN.weight"
        )
    load_all(model, with_calibration(stored.tensors), stored.source)


def provenance(stored: StoredNetwork) -> dict[str, str]:
    """The known origin of the network in a checkpoint or a shared folder, for the protocol of a test."""
    path = stored.source
    digest = digest_file(path / WEIGHTS_FILE if path.is_dir() else path)
    return {"checkpoint": f"{path} ({digest[:12]})", **stored.origin}


def read_network(path: Path) -> StoredNetwork:
    """The network in a checkpoint or a shared folder. Raises ``UserError``."""
    if path.is_dir():
        return read_folder(path)
    checkpoint = read_checkpoint(path)
    config = checkpoint["config"]
    origin = {
        "trained": f"{config['dataset']} {config['experiment']}, {_length(checkpoint)}{_seed(config)}",
        "label_use": checkpoint["label_use"],
        "novel_images": "dropped" if config.get("DATA", {}).get("drop_novel_images") else "kept",
    }
    return StoredNetwork(path, checkpoint["network"], checkpoint["model"], origin)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this project: ``version``, ``network``, ``config``, ``model`` and what training needs.

    Raises ``UserError`` for anything else, and for one that lacks a part or has one of another type.
    """
    checkpoint = read_tensor_file(
        path,
        missing="no checkpoint here; train.sh writes them, as exp/DATASET/EXPERIMENT/latest.pth",
        damaged="copy it again, or use another checkpoint",
    ).content
    version = checkpoint.get("version")
    if version != CHECKPOINT_VERSION:
        raise UserError(f"{path}: {_other_format(version, checkpoint, path)}")
    try:
        parts = _Checkpoint.model_validate(checkpoint)
    except ValidationError as error:
        raise UserError(
            f"{path}: not a whole checkpoint ({describe_problems(error)}); use another checkpoint"
        ) from None
    # Checkpoints without the settings of their network have them among those of their training.
    train = parts.config.TRAIN
    named = {name: train[name] for name in NetworkSettings.model_fields if name in train}
    return {"network": named, **checkpoint}


def _length(checkpoint: Mapping[str, Any]) -> str:
    """How long a network was trained."""
    epochs, position = f"{checkpoint['epoch']} epochs", checkpoint.get("position")
    return epochs if position is None else f"{epochs} and {position['step']} of {position['steps']} steps"


def _seed(config: Mapping[str, Any]) -> str:
    """The seed of the training; none of a network that was imported."""
    return f", seed {config['TRAIN']['manual_seed']}" if "manual_seed" in config["TRAIN"] else ""


class _Origin(BaseModel):
    """The part of a checkpoint's configuration that is read."""

    dataset: str
    experiment: str
    DATA: dict[str, Any] = {}
    TRAIN: dict[str, Any]


class _Position(BaseModel):
    """The part of a position within an epoch that is read; the rest continues the training."""

    step: int = Field(ge=0)
    steps: int = Field(ge=1)


class _Checkpoint(BaseModel):
    """The parts of a checkpoint; those of the training are missing in one that was imported."""

    model_config = ConfigDict(arbitrary_types_allowed=True, strict=True)

    network: dict[str, Any] = {}
    config: _Origin
    model: dict[str, Tensor]
    epoch: int = Field(ge=0)
    position: _Position | None = None
    label_use: str
    optimizers: dict[str, dict[str, Any]] = {}
    best_miou: float = -1.0


def _other_format(version: Any, content: Mapping[str, Any], path: Path) -> str:
    """What a file is that is no checkpoint of this format, and what to do."""
    if isinstance(version, int):
        return (
            f"a checkpoint of format {version}, this software reads format {CHECKPOINT_VERSION}; "
            "train it again, or use the version that wrote it"
        )
    tensors = named_tensors(content)
    if PUBLISHED_MARK in tensors:
        return (
            "a checkpoint of the published code; convert it with "
            f"python -m model.import_published {path} OUT.pth, then give TRAIN.weight=OUT.pth TRAIN.compat=published"
        )
    return (
        f"not a checkpoint of this software but {describe_tensors(tensors)}; train.sh writes checkpoints, and "
        "python -m model.import_published converts those of the published code"
    )


def _words(there: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """What to add to the command line for the network that a checkpoint holds."""
    keys = [key for key in expected if there.get(key) != expected[key]]
    note = ""
    if "compat" in keys:
        # It decides on others, which therefore are no words of their own.
        keys = ["compat", *(key for key in keys if key != "compat" and f"TRAIN.{key}" not in PUBLISHED)]
        if there["compat"] == "published":
            note = " (it comes from the published code by python -m model.import_published)"
    words = [f"TRAIN.{key}={str(there[key]).lower() if isinstance(there[key], bool) else there[key]}" for key in keys]
    return f"add {' '.join(words).replace(', ', ',')}{note}"
