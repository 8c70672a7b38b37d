"""Reading weight files, torch or safetensors, and checking them against the network they are meant for."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from model.weights.tensor_names import describe_tensors, named_tensors, to_timm
from util.errors import UserError


class Weights(NamedTuple):
    """The tensors of a file under timm's names, and the file."""

    path: Path
    tensors: Mapping[str, Tensor]


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
        with torch.serialization.safe_globals([argparse.Namespace]):  # DINO's checkpoints hold their arguments
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(
            f"{path}: not a readable weight file; expected tensors in a torch or safetensors file, fetch it again"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return content


def read_tensors(path: Path) -> Weights:
    """The named tensors of a weights file in any of the layouts that ``tensor_names`` knows. Raises ``UserError``."""
    return named_weights(read_weights(path), path)


def named_weights(content: Mapping[str, Any], path: Path) -> Weights:
    """``read_tensors`` of a file that has already been read. Raises ``UserError`` when it holds no tensors."""
    tensors = to_timm(named_tensors(content))
    if not tensors:
        raise UserError(f"{path}: holds no named tensors; a state dict or a checkpoint with 'state_dict' is needed")
    return Weights(path, tensors)


def load_tensors(network: nn.Module, weights: Weights, *, name: str) -> None:
    """Load every parameter and statistic of ``network``, which is called ``name``.

    Other tensors of the file (classifiers, heads) are ignored; ``num_batches_tracked`` may be missing. Names may differ
    in dots and underscores, because timm renames stages when it returns features only.
    Raises ``UserError`` when a tensor is missing or has another shape.
    """
    stored = {_plain(key): tensor for key, tensor in weights.tensors.items()}
    expected = {key: tensor for key, tensor in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    fitting = {
        key: stored[_plain(key)]
        for key, tensor in expected.items()
        if _plain(key) in stored and stored[_plain(key)].shape == tensor.shape
    }
    if len(fitting) < len(expected):
        left_over = len(stored.keys() - {_plain(key) for key in expected})
        raise UserError(
            f"{weights.path}: weights of another architecture than {name}: {len(expected) - len(fitting)} of "
            f"{len(expected)} tensors are missing or of another shape, {left_over} are unexpected; it looks like "
            f"{describe_tensors(weights.tensors)}"
        )
    network.load_state_dict(fitting, strict=False)


def _plain(key: str) -> str:
    return key.replace(".", "_")
