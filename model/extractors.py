"""Frozen networks whose feature maps pseudo masks are made of (SPEC section 11.1), and the reading of their weights."""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import timm
import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from util.errors import UserError
from util.images import IMAGENET_MEAN, IMAGENET_STD

Normalisation = Literal["imagenet", "inception", "timm"]

_MOCO_PREFIX = "module.encoder_q."
_TIMM_DOWNLOAD = Path("timm")


class Extractor(nn.Module):
    """A frozen network in evaluation mode that normalises its own input and returns its last feature map.

    ``forward``: images (B, 3, H, W) float32 RGB in [0, 1] -> features (B, channels, h, w) float32, where h and w
    are H and W divided by ``stride`` and rounded up.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *, channels: int, stride: int, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).to(memory_format=torch.channels_last)
        self.channels = channels
        self.stride = stride
        self.register_buffer("mean", mean.float().view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", std.float().view(1, 3, 1, 1), persistent=False)
        self.eval()

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        normalised = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.network(normalised)
        return features.float()


class _LastStage(nn.Module):
    """The last map of a timm ``features_only`` model."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images)[-1]
        return features


def build_extractor(name: str, *, weights: Path | None, normalize: Normalisation, output_stride: int) -> Extractor:
    """Build the extractor ``name`` and load its weights.

    ``moco``: torchvision's ResNet-50 after layer4 (stride 32 whatever ``output_stride`` says) from a MoCo
    checkpoint. ``timm:NAME``: the last stage of a timm model at ``output_stride``; ``weights`` may be
    ``Path("timm")`` for timm's own download. Raises ``UserError`` for an unknown model, missing weights and
    weights of another architecture.
    """
    if weights is None:
        raise UserError(f"extractor {name}: weights are missing; give weights=FILE (see initmodel/README.md)")
    if name == "moco":
        return _build_moco(weights, normalize)
    return _build_timm(name.removeprefix("timm:"), weights, normalize, output_stride)


def _build_moco(weights: Path, normalize: Normalisation) -> Extractor:
    network = torchvision.models.resnet50(weights=None)
    network.fc = nn.Identity()
    load_weights(network, weights)
    trunk = nn.Sequential(*list(network.children())[:-2])  # without average pooling and classifier
    mean, std = _normalisation("imagenet" if normalize == "timm" else normalize, {})
    return Extractor(trunk, channels=2048, stride=32, mean=mean, std=std)


def _build_timm(name: str, weights: Path, normalize: Normalisation, output_stride: int) -> Extractor:
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() lists them"
        raise UserError(f"extractor timm:{name}: timm has no such model; {hint}")
    download = weights == _TIMM_DOWNLOAD
    try:
        network: Any = timm.create_model(name, pretrained=download, features_only=True, output_stride=output_stride)
    except Exception as error:  # timm, its hub client and each model family raise their own kinds
        advice = "give weights=FILE, or another model" if download else "choose a convolutional model"
        reason = " ".join(str(error).split())
        raise UserError(f"extractor timm:{name} at output stride {output_stride}: {reason}; {advice}") from error
    if not download:
        load_weights(network, weights)
    mean, std = _normalisation(normalize, network.pretrained_cfg)
    info = network.feature_info
    return Extractor(_LastStage(network), channels=info.channels()[-1], stride=info.reduction()[-1], mean=mean, std=std)


def _normalisation(normalize: Normalisation, pretrained: Mapping[str, tuple[float, ...]]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the input, for images in [0, 1]."""
    if normalize == "inception":
        return torch.full((3,), 0.5), torch.full((3,), 0.5)
    if normalize == "timm":
        return torch.tensor(pretrained["mean"]), torch.tensor(pretrained["std"])
    return torch.from_numpy(IMAGENET_MEAN), torch.from_numpy(IMAGENET_STD)


def load_weights(network: nn.Module, weights: Path) -> None:
    """Load every parameter and statistic of ``network`` from a torch or safetensors file.

    What the file holds beyond them (classifiers, heads) is left over; ``num_batches_tracked`` may be missing.
    Names may differ in dots and underscores, because timm renames stages when it returns features only.
    Raises ``UserError`` when a tensor is missing or has another shape.
    """
    found = {_plain(key): tensor for key, tensor in _read_state(weights).items()}
    wanted = {key: tensor for key, tensor in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    fitting = {
        key: found[_plain(key)]
        for key, tensor in wanted.items()
        if _plain(key) in found and found[_plain(key)].shape == tensor.shape
    }
    if len(fitting) < len(wanted):
        left_over = len(found) - len(found.keys() & {_plain(key) for key in wanted})
        raise UserError(
            f"{weights}: weights of another architecture: {len(wanted) - len(fitting)} of {len(wanted)} tensors are "
            f"missing or of another shape, {left_over} are unexpected; it looks like {_describe(found)}"
        )
    network.load_state_dict(fitting, strict=False)


def _plain(key: str) -> str:
    return key.replace(".", "_")


def _read_state(weights: Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name; of a MoCo checkpoint those of the query encoder, without prefix."""
    if not weights.is_file():
        raise UserError(
            f"{weights}: weights not found; see initmodel/README.md for the address, put the file there and give the "
            "same command again, or name another with weights=FILE"
        )
    try:
        if weights.suffix == ".safetensors":
            content: Any = load_file(weights)
        else:
            content = torch.load(weights, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(
            f"{weights}: not a readable weight file; expected tensors in a torch or safetensors file, fetch it again"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{weights}: holds no named tensors; a state dict or a checkpoint with 'state_dict' is needed")
    if any(key.startswith(_MOCO_PREFIX) for key in tensors):
        tensors = {
            key.removeprefix(_MOCO_PREFIX): tensor for key, tensor in tensors.items() if key.startswith(_MOCO_PREFIX)
        }
    return tensors


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
