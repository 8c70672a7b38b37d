"""Frozen networks whose feature maps pseudo masks are made of (docs/method.md, section 11.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.frozen.folding import fold_batch_norm
from model.frozen.timm_networks import FROM_TIMM, find_layout, normalization
from model.pointwise import use_pointwise_convolutions
from model.weights import load_tensors, read_tensors
from util.errors import UserError


class _Family(NamedTuple):
    """Self-supervised weights that are published: of which timm model, for images normalised how."""

    model: str
    normalize: str


_FAMILIES = {
    "moco": _Family("resnet50", "imagenet"),
    "simclr": _Family("resnet50", "none"),
    "dino": _Family("vit_base_patch8_224", "imagenet"),
}


class Extractor(nn.Module):
    """A frozen network in evaluation mode that normalises its own input and returns one feature map.

    ``forward``: images (B, 3, H, W) float32 RGB in [0, 1] -> features (B, channels, h, w) float32, where h and w are
    H and W divided by ``stride`` and rounded up. With a mirror image or several ``scales`` they are averages of
    features of unit length. On a GPU the network computes in bfloat16.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        channels: int,
        stride: int,
        mean: Sequence[float],
        std: Sequence[float],
        patch: int | None = None,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
    ) -> None:
        """``network`` maps normalised images to features; with ``patch`` it takes (n - 1) * patch + 1 pixels for n."""
        super().__init__()
        network = network.requires_grad_(False).eval()
        fold_batch_norm(network)
        use_pointwise_convolutions(network)
        self.network = network.to(memory_format=torch.channels_last)
        self.channels = channels
        self.stride = stride
        self.patch = patch
        self.flip = flip
        self.scales = tuple(scales)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.eval()

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        images = (images - self.mean) / self.std
        if not self.flip and self.scales == (1.0,):
            return self._features(images)
        size = [-(-side // self.stride) for side in images.shape[-2:]]
        total = torch.zeros(1, device=images.device)
        for scale in self.scales:
            scaled = images if scale == 1 else _resized(images, [round(side * scale) for side in images.shape[-2:]])
            total = total + _resized(F.normalize(self._features(scaled), dim=1), size)
            if self.flip:
                total = total + _resized(F.normalize(self._features(scaled.flip(-1)), dim=1), size).flip(-1)
        return total / (len(self.scales) * (1 + self.flip))

    def _features(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> (B, channels, h, w) float32."""
        if self.patch is not None:
            patches = [-(-side // self.stride) for side in images.shape[-2:]]
            images = _resized(images, [(count - 1) * self.patch + 1 for count in patches])
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.device.type == "cuda"):
            features: Tensor = self.network(images)
        return features.float()


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, H, W) brought to ``size``, corners on corners."""
    if list(maps.shape[-2:]) == list(size):
        return maps
    return F.interpolate(maps, list(size), mode="bilinear", align_corners=True)


class _LastMap(nn.Module):
    """The last map of a network that gives a list."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images)[-1]
        return features


def build_extractor(
    name: str,
    *,
    weights: Path | None,
    normalize: str | None = None,
    stage: int = -1,
    stride: int | None = None,
    output_stride: int = 32,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
) -> Extractor:
    """Build the extractor ``name`` and load its weights.

    ``moco`` and ``simclr``: ResNet-50; ``dino``: ViT-B/8; ``timm:NAME``: a timm model. Features are those after
    ``stage``, of a vision transformer its normalised block; negative ones count from the last. Files may be in the
    layouts of their authors (``model.weights.tensor_names``), ``weights`` may be ``Path("timm")`` for timm's download.
    ``normalize`` is a word of ``model.frozen.timm_networks.normalization``; None what the name's own weights expect.

    ``stride`` is the distance of two features in pixels. None: ``output_stride`` for a convolutional network, of a
    transformer the patch; for another stride a transformer sees the image enlarged or reduced. ``flip`` averages over
    image and mirror image, ``scales`` over sizes of the image. Raises ``UserError`` for an unknown model, missing
    weights and weights of another architecture.
    """
    if weights is None:
        raise UserError(f"extractor {name}: weights are missing; give weights=FILE (see initmodel/README.md)")
    family = _FAMILIES.get(name, _Family(name.removeprefix("timm:"), "timm"))
    called = f"extractor {name}"
    layout = find_layout(family.model, called=called, output_stride=stride or output_stride)
    last = len(layout.strides) - 1
    if not -last - 1 <= stage <= last:
        raise UserError(f"Cluster.stage={stage}: {called} has stages 0 to {last}, or -{last + 1} to -1")
    stage %= last + 1
    network, model = layout.create([stage], pretrained=weights == FROM_TIMM)
    if weights != FROM_TIMM:
        load_tensors(model, read_tensors(weights), name=family.model)
    own_stride = layout.strides[stage]
    if layout.is_convolutional and stride not in (None, own_stride):
        raise UserError(f"Cluster.stride={stride}: {called} has features every {own_stride} pixels; give 8, 16 or 32")
    mean, std = normalization(normalize or family.normalize, family.model)
    return Extractor(
        _LastMap(network),
        channels=layout.channels[stage],
        stride=stride or own_stride,
        patch=None if layout.is_convolutional else own_stride,
        mean=mean,
        std=std,
        flip=flip,
        scales=scales,
    )
