"""The frozen backbone (SPEC section 1): any timm network at output stride 8, or the published deep-stem ResNet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.data.constants import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from torch import Tensor, nn

from model.weights import load_tensors, read_tensors
from util.errors import UserError
from util.images import IMAGENET_MEAN, IMAGENET_STD

OUTPUT_STRIDE = 8
FROM_TIMM = Path("timm")
# The published ResNets are timm's with a deep stem of width 64.
_DEEP_STEM = {"resnet50_v2": "resnet50", "resnet101_v2": "resnet101"}
# Published name of a stem tensor -> timm's.
_DEEP_STEM_KEYS = {
    "conv1": "conv1.0",
    "bn1": "conv1.1",
    "conv2": "conv1.3",
    "bn2": "conv1.4",
    "conv3": "conv1.6",
    "bn3": "bn1",
}


class Backbone(nn.Module):
    """A frozen feature extractor: no gradients, batch norm always in evaluation mode.

    ``mid_channels`` and ``high_channels`` are the channels of the two maps that ``forward`` returns.
    """

    def __init__(
        self, network: nn.Module, *, mid_channels: int, high_channels: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        """``network`` maps images normalised with ``mean`` and ``std`` to a list of maps, mid stages first."""
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.mid_channels, self.high_channels = mid_channels, high_channels
        self.scale: Tensor
        self.shift: Tensor
        own_mean, own_std = torch.tensor(mean), torch.tensor(std)
        imagenet_mean, imagenet_std = torch.from_numpy(IMAGENET_MEAN), torch.from_numpy(IMAGENET_STD)
        self.register_buffer("scale", (imagenet_std / own_std).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", ((imagenet_mean - own_mean) / own_std).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode whatever the surrounding network does."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, 3, H, W), ImageNet-normalised -> mid (B, mid_channels, h, w), high (B, high_channels, h, w)."""
        images = images * self.scale + self.shift
        *mid, high = self.network(images.contiguous(memory_format=torch.channels_last))
        size = high.shape[-2:]
        mid = [x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=True) for x in mid]
        return torch.cat(mid, dim=1).contiguous(), high.contiguous()


def build_backbone(name: str, *, weights: Path | None, normalize: str, mid_stages: Sequence[int]) -> Backbone:
    """A frozen backbone by name.

    ``name`` is ``resnet50_v2``, ``resnet101_v2`` or a timm model; ``weights`` a file, ``Path("timm")`` for timm's own
    download, or None for random weights; ``normalize`` what the weights expect: ``imagenet``, ``inception``
    (mean and std 0.5) or ``timm`` (what timm says of the model). ``mid_stages`` index timm's feature stages; the
    last stage always is the high map. Raises ``UserError``.
    """
    total = len(_channels(_create(name, pretrained=False, out_indices=None)))
    stages = [stage % total for stage in mid_stages if -total <= stage < total - 1 and stage != -1]
    if len(stages) != len(mid_stages):
        raise UserError(
            f"TRAIN.mid_stages={list(mid_stages)}: {name} has stages 0 to {total - 1}, the last is no mid stage"
        )
    network = _create(name, pretrained=weights == FROM_TIMM, out_indices=(*sorted(stages), total - 1))
    if weights is not None and weights != FROM_TIMM:
        load_tensors(network, _backbone_tensors(name, weights), weights, name=name)
    channels = _channels(network)
    mean, std = normalization(normalize, name)
    return Backbone(network, mid_channels=sum(channels[:-1]), high_channels=channels[-1], mean=mean, std=std)


def normalization(normalize: str, model_name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation, on the 0..1 scale, for ``imagenet``, ``inception`` or ``timm``."""
    if normalize == "inception":
        return IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
    if normalize == "timm":
        settings = timm.get_pretrained_cfg(model_name)
        if settings is not None:
            return settings.mean, settings.std
    return IMAGENET_MEAN.tolist(), IMAGENET_STD.tolist()


def _create(name: str, *, pretrained: bool, out_indices: tuple[int, ...] | None) -> nn.Module:
    options: dict[str, Any] = {"stem_type": "deep", "stem_width": 64} if name in _DEEP_STEM else {}
    try:
        return timm.create_model(
            _DEEP_STEM.get(name, name),
            pretrained=pretrained,
            features_only=True,
            output_stride=OUTPUT_STRIDE,
            out_indices=out_indices,
            **options,
        )
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"TRAIN.backbone={name}: timm cannot build it at output stride 8 ({error})") from None


def _channels(network: nn.Module) -> list[int]:
    """Channels of each map that a timm ``features_only`` network returns."""
    feature_info: Any = network.feature_info
    channels: list[int] = feature_info.channels()
    return channels


def _backbone_tensors(name: str, path: Path) -> dict[str, Tensor]:
    tensors = read_tensors(path)
    if name not in _DEEP_STEM:
        return tensors
    return {_to_timm_key(key): value for key, value in tensors.items()}


def _to_timm_key(key: str) -> str:
    stem = re.match(r"(conv|bn)[123](?=\.)", key)
    return _DEEP_STEM_KEYS[stem.group()] + key[stem.end() :] if stem else key
