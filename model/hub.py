"""Networks as folders that can be shared: ``model.safetensors``, and ``config.json`` with settings and origin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from pydantic import BaseModel
from typing_extensions import Self

from util.errors import UserError
from util.files import read_json, write_json
from util.tensor_files import read_tensor_file, write_safetensors_file

if TYPE_CHECKING:
    from torch import Tensor

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT_VERSION = 1
# What may be known of a network's training, and what is said where nothing is.
ORIGIN = ("trained", "label_use", "novel_images")
UNKNOWN_ORIGIN = {"trained": "unknown", "label_use": "unknown"}
_DAMAGED = "copy the folder again"


class StoredNetwork(NamedTuple):
    """A network as a checkpoint or a shared folder, ``source``, holds it.

    ``origin`` states what is known of its training, by the names in ``ORIGIN``.
    """

    source: Path
    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    origin: dict[str, str]


class SharedModel(ModelHubMixin, library_name="unsupfss", license="apache-2.0", tags=["few-shot-segmentation"]):
    """Gives a network ``save_pretrained``, ``from_pretrained`` and ``push_to_hub``.

    The network has ``settings``, the ``origin`` of its weights, and a class method ``from_stored`` that builds the same
    network from them.
    """

    settings: BaseModel | None
    origin: dict[str, str]

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Self:  # type: ignore[override]
        """The network of a folder, or of a name on the hub, in evaluation mode on the CPU.

        ``options`` are those of the hub (``revision``, ``local_files_only``, ...). Raises ``UserError``.
        """
        folder = Path(name) if Path(name).is_dir() else _downloaded(str(name), options)
        model: Self = cls.from_stored(read_folder(folder))  # type: ignore[attr-defined]
        return model

    def _save_pretrained(self, save_directory: Path) -> None:
        if self.settings is None:
            raise UserError(f"only a network that was built from settings can be shared: {CONFIG_FILE} holds them")
        tensors: Mapping[str, Tensor] = self.state_dict()  # type: ignore[attr-defined]
        config = {"format_version": FORMAT_VERSION, "network": self.settings.model_dump(mode="json"), **self.origin}
        write_safetensors_file(save_directory / WEIGHTS_FILE, tensors, {"format": "pt", "config": json.dumps(config)})
        write_json(save_directory / CONFIG_FILE, config)


def read_folder(folder: Path) -> StoredNetwork:
    """The network of a shared folder; raises ``UserError`` for a folder without one, and for damaged files."""
    config_path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    if not config_path.is_file():
        raise UserError(f"{folder}: {CONFIG_FILE} is missing; a folder with it and {WEIGHTS_FILE} is a shared network")
    config = read_json(config_path, _DAMAGED)
    if not isinstance(config, dict) or config.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{config_path}: not of this software's format {FORMAT_VERSION}; {_DAMAGED}")
    if not isinstance(config.get("network"), dict):
        raise UserError(f"{config_path}: 'network' is missing, the settings of the network; {_DAMAGED}")
    missing = f"weights not found; {_DAMAGED}, {CONFIG_FILE} without them is no network"
    tensors, metadata = read_tensor_file(weights_path, missing=missing, damaged=_DAMAGED)
    # Folders from before the weights held a copy of the settings are taken as they are.
    if metadata.get("config", json.dumps(config)) != json.dumps(config):
        raise UserError(f"{config_path}: not the settings that {WEIGHTS_FILE} was written with; {_DAMAGED}")
    origin = {key: str(config[key]) for key in ORIGIN if key in config}
    return StoredNetwork(folder, config["network"], tensors, {**UNKNOWN_ORIGIN, **origin})


def _downloaded(name: str, options: Mapping[str, Any]) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE], **options))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{name}: neither a folder with {CONFIG_FILE} and {WEIGHTS_FILE} nor a network on the hub ({reason})"
        ) from error
