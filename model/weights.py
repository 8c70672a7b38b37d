"""Reading weight files: torch or safetensors, always checked against the network they are meant for."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from util.errors import UserError


def read_weights(path: Path) -> dict[str, Any]:
    """The content of a ``.safetensors`` or torch file, on the CPU, without running code from it.

    Raises ``UserError`` for a missing file, one that is neither, or one that holds more than tensors and plain values.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: weights not found; initmodel/README.md and weights/README.md say where they come from, "
            "put the file there and type the same command again"
        )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{path}: not a readable weights file ({str(error).splitlines()[0]}); get it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return content


def load_strictly(network: nn.Module, state: dict[str, Tensor], path: Path, *, name: str) -> None:
    """Load ``state`` into ``network``; every parameter must be there with its shape.

    Tensors that the network lacks (classifier heads) are left out. ``name`` and ``path`` are for the ``UserError``.
    """
    own = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    missing = [key for key in own if key not in state]
    if missing:
        raise UserError(
            f"{path}: not the weights of {name}: {len(missing)} of {len(own)} tensors are missing, the first is "
            f"'{missing[0]}'; the file starts with '{next(iter(state), 'nothing')}'"
        )
    wrong = [key for key in own if own[key].shape != state[key].shape]
    if wrong:
        raise UserError(
            f"{path}: not the weights of {name}: '{wrong[0]}' has shape {tuple(state[wrong[0]].shape)}, "
            f"expected {tuple(own[wrong[0]].shape)}"
        )
    network.load_state_dict({key: state[key] for key in own}, strict=False)
