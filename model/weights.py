"""Reading weight files: torch or safetensors, always checked against the network they are meant for."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from util.errors import UserError

_MOCO_PREFIX = "module.encoder_q."


def read_weights(path: Path) -> dict[str, Any]:
    """The content of a ``.safetensors`` or torch file, on the CPU, without running code from it.

    Raises ``UserError`` for a missing file, one that is neither, or one that holds more than tensors and plain values.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: weights not found; see initmodel/README.md for the address, put the file there and give the "
            "same command again"
        )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(
            f"{path}: not a readable weight file; expected tensors in a torch or safetensors file, fetch it again"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return content


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a weights file; of a MoCo checkpoint those of the query encoder, without their prefix."""
    content = read_weights(path)
    tensors = {key: value for key, value in content.get("state_dict", content).items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path}: holds no named tensors; a state dict or a checkpoint with 'state_dict' is needed")
    encoder = {key.removeprefix(_MOCO_PREFIX): value for key, value in tensors.items() if key.startswith(_MOCO_PREFIX)}
    return encoder or tensors


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], path: Path, *, name: str) -> None:
    """Load every parameter and statistic of ``network``, which is called ``name``, from the tensors of ``path``.

    What the file holds beyond them (classifiers, heads) is left over; ``num_batches_tracked`` may be missing.
    Names may differ in dots and underscores, because timm renames stages when it returns features only.
    Raises ``UserError`` when a tensor is missing or has another shape.
    """
    found = {_plain(key): tensor for key, tensor in tensors.items()}
    wanted = {key: tensor for key, tensor in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    fitting = {
        key: found[_plain(key)]
        for key, tensor in wanted.items()
        if _plain(key) in found and found[_plain(key)].shape == tensor.shape
    }
    if len(fitting) < len(wanted):
        left_over = len(found.keys() - {_plain(key) for key in wanted})
        raise UserError(
            f"{path}: weights of another architecture than {name}: {len(wanted) - len(fitting)} of {len(wanted)} "
            f"tensors are missing or of another shape, {left_over} are unexpected; it looks like {_describe(found)}"
        )
    network.load_state_dict(fitting, strict=False)


def _plain(key: str) -> str:
    return key.replace(".", "_")


def _describe(tensors: Mapping[str, Tensor]) -> str:
    """What a state dict (names with underscores for dots) seems to belong to."""
    marks = {
        "conv_stem_weight": "a timm EfficientNet or MobileNet",
        "patch_embed_proj_weight": "a vision transformer",
        "conv3_weight": "a deep-stem ResNet (semseg layout)",
        "layer4_0_conv3_weight": "a ResNet-50 or larger",
        "layer1_0_conv1_weight": "a ResNet-18 or ResNet-34, or the first layers of a ResNet",
    }
    for key, family in marks.items():
        if key in tensors:
            return family
    return f"something with names like '{next(iter(tensors))}'"
