"""The frozen backbone (docs/method.md, section 1): any timm network, or the published deep-stem ResNet.

Convolutional networks run at output stride 8, vision transformers on their patch grid. In both cases input sides are 1
more than a multiple of the stride, and feature i stands for pixel i * stride: corners lie on corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from model.frozen.frozen_network import build_frozen, freeze, resized
from model.weights import Weights
from util.errors import UserError
from util.images import IMAGENET_MEAN, IMAGENET_STD

OUTPUT_STRIDE = 8


class Backbone(nn.Module):
    """A frozen feature extractor: no gradients, always in evaluation mode, batch norm folded where that is possible.

    ``mid_channels`` and ``high_channels`` are the channels of the two maps that ``forward`` returns, ``stride`` is the
    distance between two of their positions in pixels.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        channels: Sequence[int],
        mid: Sequence[int],
        high: int,
        stride: int,
        mean: Sequence[float],
        std: Sequence[float],
        class_head: nn.Module | None = None,
    ) -> None:
        """``network`` maps images normalised with ``mean`` and ``std`` to a list of maps with these ``channels``.

        ``mid`` and ``high`` are positions in the list: of the maps that are concatenated, of the one for the prior.
        ``class_head`` takes the high map.
        """
        super().__init__()
        self.network = freeze(network)
        self.class_head = None if class_head is None else freeze(class_head)
        self.mid, self.high, self.stride = tuple(mid), high, stride
        self.mid_channels, self.high_channels = sum(channels[i] for i in mid), channels[high]
        self.scale: Tensor
        self.shift: Tensor
        own_mean, own_std = torch.tensor(mean), torch.tensor(std)
        imagenet_mean, imagenet_std = torch.from_numpy(IMAGENET_MEAN), torch.from_numpy(IMAGENET_STD)
        self.register_buffer("scale", (imagenet_std / own_std).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", ((imagenet_mean - own_mean) / own_std).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode, whatever mode the surrounding network is in."""
        return super().train(False)

    def check_sides(self, **sides: int) -> None:
        """Raise ``UserError`` unless images of these sides, keys of the config's TRAIN section, fit the stride."""
        wrong = {f"TRAIN.{key}": side for key, side in sides.items() if side % self.stride != 1}
        if wrong:
            lower = (min(wrong.values()) - 1) // self.stride * self.stride + 1
            raise UserError(
                f"{', '.join(f'{key}={side}' for key, side in wrong.items())}: sides must be 1 more than a multiple of "
                f"{self.stride}, the stride of this backbone, like {lower} or {lower + self.stride}"
            )

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, 3, H, W), ImageNet-normalised -> mid (B, mid_channels, h, w), high (B, high_channels, h, w).

        Both maps are in channels-last memory: the features of a position are contiguous.
        """
        images = (images * self.scale + self.shift).contiguous(memory_format=torch.channels_last)
        # A CPU is no faster on a batch than on one image after another, which needs less memory.
        parts = images.split(1 if images.device.type == "cpu" else max(len(images), 1))
        mid, high = zip(*map(self._mid_and_high, parts), strict=True)
        return _joined(mid), _joined(high)

    def _mid_and_high(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.network(images)
        size = maps[-1].shape[-2:]
        maps = [resized(features, size) for features in maps]
        return torch.cat([maps[i] for i in self.mid], dim=1), maps[self.high]


def _joined(maps: Sequence[Tensor]) -> Tensor:
    joined = maps[0] if len(maps) == 1 else torch.cat(tuple(maps))
    return joined.contiguous(memory_format=torch.channels_last)


def build_backbone(
    name: str,
    *,
    weights: Path | Weights | None,
    normalize: str,
    mid_stages: Sequence[int],
    high_stage: int = -1,
    class_scores: bool = False,
) -> Backbone:
    """A frozen backbone by name.

    ``name`` is ``resnet50_v2``, ``resnet101_v2`` or a timm model; ``weights`` a file or what was read from one,
    ``Path("timm")`` for timm's own download, or None for random weights; ``normalize`` what the weights expect, an
    option of ``model.frozen.timm_networks.normalization``. ``mid_stages`` and ``high_stage`` index timm's feature
    stages, of a transformer its blocks; negative ones count from the last. With ``class_scores`` it has a
    ``class_head``, for which the weights need a classifier. Raises ``UserError``.
    """
    frozen = build_frozen(
        name,
        title=f"TRAIN.backbone={name}",
        stages=[*mid_stages, high_stage],
        stage_keys=f"TRAIN.mid_stages={list(mid_stages)}, TRAIN.high_stage={high_stage}",
        weights=weights,
        normalize=normalize,
        output_stride=OUTPUT_STRIDE,
        class_scores=class_scores,
    )
    *mid, high = frozen.positions
    return Backbone(
        frozen.network,
        channels=frozen.channels,
        mid=sorted(mid),
        high=high,
        stride=frozen.stride,
        mean=frozen.mean,
        std=frozen.std,
        class_head=frozen.class_head,
    )
