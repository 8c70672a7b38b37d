"""Weight files of backbones and extractors, and loading tensors into the network that they are meant for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model.weights.tensor_names import describe_tensors, named_tensors, to_timm
from util.errors import UserError
from util.tensor_files import read_tensor_file


class Weights(NamedTuple):
    """The tensors of a file under timm's names, and the file."""

    path: Path
    tensors: Mapping[str, Tensor]


def read_weights(path: Path) -> dict[str, Any]:
    """The content of a ``.safetensors`` or torch file from elsewhere, on the CPU, without running code from it.

    Raises ``UserError`` for a missing file, one that is neither, is damaged, or holds more than tensors and plain
    values.
    """
    missing = (
        "weights not found; see initmodel/README.md, for extractors weights/README.md, for the address, put the file "
        "there and give the same command again"
    )
    return read_tensor_file(path, missing=missing, damaged="fetch it again").content


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
    Raises ``UserError`` when a tensor is missing, has another shape or is not finite.
    """
    stored, expected = _by_names_of(network, weights)
    misfit = describe_misfit(stored, expected)
    if misfit is not None:
        raise UserError(
            f"{weights.path}: weights of another architecture than {name}: {misfit}; it looks like "
            f"{describe_tensors(weights.tensors)}"
        )
    load_finite(network, {key: stored[key] for key in expected}, weights.path)


def are_those_of(weights: Weights, network: nn.Module) -> bool:
    """Whether ``load_tensors`` would find all that ``network`` needs."""
    return describe_misfit(*_by_names_of(network, weights)) is None


def load_all(network: nn.Module, tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Load tensors that are all those of ``network`` and no others, by its names.

    Raises ``UserError``, which names ``source``, where they do not fit or are not finite.
    """
    misfit = describe_misfit(tensors, network.state_dict(), exact=True)
    if misfit is not None:
        raise UserError(f"{source}: holds tensors of another network: {misfit}")
    load_finite(network, tensors, source)


def _by_names_of(network: nn.Module, weights: Weights) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of a file under the names that ``network`` has for them, and those that it needs."""
    state = network.state_dict()
    names = {_plain(key): key for key in state}
    stored = {names.get(_plain(key), key): tensor for key, tensor in weights.tensors.items()}
    return stored, {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}


def describe_misfit(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, exact: bool = False) -> str | None:
    """A phrase for the tensors of ``expected`` that ``stored`` lacks or has in another shape or kind; None for none.

    With ``exact`` it may not hold others either.
    """
    wrong = [key for key, tensor in expected.items() if key not in stored or not _fits(stored[key], tensor)]
    unexpected = sorted(stored.keys() - expected.keys())
    if not wrong and not (exact and unexpected):
        return None
    first = [f"{key} is {_describe(stored.get(key))} there, {_describe(expected[key])} expected" for key in wrong[:1]]
    examples = "; ".join([*first, *(f"{key!r} is unexpected" for key in unexpected[:1] if exact)])
    return (
        f"{len(wrong)} of {len(expected)} tensors are missing or of another shape, {len(unexpected)} are unexpected "
        f"({examples})"
    )


def load_finite(network: nn.Module, tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Load tensors that fit; raises ``UserError``, which names ``source``, where one holds NaN or infinity."""
    network.load_state_dict(tensors, strict=False)
    loaded = network.state_dict()
    wrong = [name for name in tensors if not _is_finite(loaded[name])]
    if wrong:
        raise UserError(
            f"{source}: weights are not finite: {len(wrong)} of {len(tensors)} tensors hold NaN or infinity, the first "
            f"is {wrong[0]}; use another file"
        )


def _is_finite(tensor: Tensor) -> bool:
    # Both extremes are NaN where any value is; ten times as fast as looking at each.
    return tensor.numel() == 0 or bool(torch.isfinite(torch.stack(torch.aminmax(tensor.detach()))).all())


def _fits(stored: Tensor, expected: Tensor) -> bool:
    is_plain = stored.layout == torch.strided and stored.device.type == "cpu" and not stored.is_quantized
    return is_plain and stored.shape == expected.shape and stored.is_floating_point() == expected.is_floating_point()


def _describe(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _plain(key: str) -> str:
    return key.replace(".", "_")
