"""Frozen networks whose feature maps pseudo masks are made of (SPEC section 11.1)."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import timm
import torch
import torchvision
from torch import Tensor, nn

from model.backbone import FROM_TIMM, normalization
from model.folding import fold_batch_norm
from model.pointwise import use_pointwise_convolutions
from model.weights import load_tensors, read_tensors
from util.errors import UserError

Normalisation = Literal["imagenet", "inception", "timm"]


class Extractor(nn.Module):
    """A frozen network in evaluation mode that normalises its own input and returns its last feature map.

    ``forward``: images (B, 3, H, W) float32 RGB in [0, 1] -> features (B, channels, h, w) float32, where h and w
    are H and W divided by ``stride`` and rounded up.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, *, channels: int, stride: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        network = network.requires_grad_(False).eval()
        fold_batch_norm(network)
        use_pointwise_convolutions(network)
        self.network = network.to(memory_format=torch.channels_last)
        self.channels = channels
        self.stride = stride
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
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
    load_tensors(network, read_tensors(weights), name="torchvision's ResNet-50")
    trunk = nn.Sequential(*list(network.children())[:-2])  # without average pooling and classifier
    mean, std = normalization(normalize, "resnet50")
    return Extractor(trunk, channels=2048, stride=32, mean=mean, std=std)


def _build_timm(name: str, weights: Path, normalize: Normalisation, output_stride: int) -> Extractor:
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() lists them"
        raise UserError(f"extractor timm:{name}: timm has no such model; {hint}")
    download = weights == FROM_TIMM
    try:
        network: Any = timm.create_model(name, pretrained=download, features_only=True, output_stride=output_stride)
    except Exception as error:  # timm, its hub client and each model family raise their own kinds
        advice = "give weights=FILE, or another model" if download else "choose a convolutional model"
        reason = " ".join(str(error).split())
        raise UserError(f"extractor timm:{name} at output stride {output_stride}: {reason}; {advice}") from error
    if not download:
        load_tensors(network, read_tensors(weights), name=name)
    mean, std = normalization(normalize, name)
    info = network.feature_info
    return Extractor(_LastStage(network), channels=info.channels()[-1], stride=info.reduction()[-1], mean=mean, std=std)
