"""Networks as folders that can be shared: ``model.safetensors`` and a ``config.json`` that says what network it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelHubMixin, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
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

    The network has ``settings``, plain values that ``from_settings`` makes the same network from.
    """

    settings: dict[str, Any]

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
        if not self.settings:
            raise UserError("only a network that was made from settings can say in its config.json what it is")
        tensors: Mapping[str, Tensor] = self.state_dict()  # type: ignore[attr-defined]
        with atomic_write(save_directory / WEIGHTS_FILE) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        write_json(save_directory / CONFIG_FILE, {"format_version": FORMAT_VERSION, "network": self.settings})

    @classmethod
    def _from_pretrained(cls, *, model_id: str, config: Any = None, **options: Any) -> Self:
        if not isinstance(config, dict) or config.get("format_version") != FORMAT_VERSION:
            raise UserError(f"{model_id}: {CONFIG_FILE} is missing or not of this software's format {FORMAT_VERSION}")
        if Path(model_id).is_dir():
            path = Path(model_id) / WEIGHTS_FILE
        else:
            path = Path(hf_hub_download(model_id, WEIGHTS_FILE, **options))
        model: Any = cls.from_settings(config["network"], backbone_weights=None)  # type: ignore[attr-defined]
        model.load_state_dict(read_weights(path))
        shared: Self = model.eval()
        return shared
