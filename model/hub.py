"""Networks as folders that can be shared: ``model.safetensors``, and ``config.json`` with the network's settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelHubMixin, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from pydantic import BaseModel
from safetensors.torch import save_file
from typing_extensions import Self

from model.weights import read_weights
from util.errors import UserError
from util.files import atomic_write, write_json

if TYPE_CHECKING:
    from torch import Tensor

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT_VERSION = 1


class SharedModel(ModelHubMixin, library_name="unsupfss", license="apache-2.0", tags=["few-shot-segmentation"]):
    """Gives a network ``save_pretrained``, ``from_pretrained`` and ``push_to_hub``.

    The network has ``settings``, and a class method ``from_stored`` that builds the same network from them.
    """

    settings: BaseModel | None

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Self:  # type: ignore[override]
        """The network of a folder, or of a name on the hub, in evaluation mode on the CPU.

        ``options`` are those of the hub (``revision``, ``local_files_only``, ...). Raises ``UserError``.
        """
        try:
            model: Self = super().from_pretrained(name, **options)
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"{name}: neither a folder with {CONFIG_FILE} and {WEIGHTS_FILE} nor a network on the hub ({reason})"
            ) from error
        return model

    def _save_pretrained(self, save_directory: Path) -> None:
        if self.settings is None:
            raise UserError(f"only a network that was built from settings can be shared: {CONFIG_FILE} holds them")
        tensors: Mapping[str, Tensor] = self.state_dict()  # type: ignore[attr-defined]
        with atomic_write(save_directory / WEIGHTS_FILE) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        network = self.settings.model_dump(mode="json")
        write_json(save_directory / CONFIG_FILE, {"format_version": FORMAT_VERSION, "network": network})

    @classmethod
    def _from_pretrained(cls, *, model_id: str, config: Any = None, **options: Any) -> Self:
        if not isinstance(config, dict) or config.get("format_version") != FORMAT_VERSION:
            raise UserError(f"{model_id}: {CONFIG_FILE} is missing or not of this software's format {FORMAT_VERSION}")
        if Path(model_id).is_dir():
            path = Path(model_id) / WEIGHTS_FILE
        else:
            path = Path(hf_hub_download(model_id, WEIGHTS_FILE, **options))
        shared: Self = cls.from_stored(config["network"], read_weights(path), model_id)  # type: ignore[attr-defined]
        return shared
