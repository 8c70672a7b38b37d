"""Frozen networks whose feature maps pseudo masks are made from (docs/method.md, section 11.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.frozen.frozen_network import build_frozen, freeze, resized
from util.errors import UserError
from util.files import PROJECT


class Family(NamedTuple):
    """Published self-supervised weights: the timm model they belong to, and how its images are normalised.

    ``files`` are the names that their file may have, ``address`` is where it is fetched from.
    """

    model: str
    normalize: str
    files: tuple[str, ...] = ()
    address: str = ""


FAMILIES = {
    "moco": Family(
        "resnet50",
        "imagenet",
        ("moco_v2_800ep_pretrain.pth.tar",),
        "https://dl.fbaipublicfiles.com/moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar",
    ),
    "simclr": Family(
        "resnet50",
        "none",
        ("simclr_resnet50-1x.pth", "resnet50-1x.pth", "r50_1x_sk0.pth"),
        "https://huggingface.co/lightly-ai/simclrv1-imagenet1k-resnet50-1x/resolve/main/resnet50-1x.pth",
    ),
    "dino": Family(
        "vit_base_patch8_224",
        "imagenet",
        ("dino_vit_B_8.pth", "dino_vitbase8_pretrain.pth", "dino_vitbase8_pretrain_full_checkpoint.pth"),
        "https://dl.fbaipublicfiles.com/dino/dino_vitbase8_pretrain/dino_vitbase8_pretrain.pth",
    ),
}
# Where the files are looked for, in this order.
EXTRACTOR_FOLDERS = (PROJECT / "weights", PROJECT / "initmodel")


class Extractor(nn.Module):
    """A frozen network in evaluation mode that normalises its own input and returns one feature map.

    ``forward``: images (B, 3, H, W) float32 RGB in [0, 1] -> features (B, channels, h, w) float32, where h and w are
    H and W divided by ``stride`` and rounded up. With a mirror image or several ``scales`` they are averages of
    unit-length features. On a GPU the network computes in bfloat16.
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
        self.network = freeze(network)
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
            sides = [max(1, round(side * scale)) for side in images.shape[-2:]]
            scaled = images if scale == 1 else resized(images, sides)
            total = total + resized(F.normalize(self._features(scaled), dim=1), size)
            if self.flip:
                total = total + resized(F.normalize(self._features(scaled.flip(-1)), dim=1), size).flip(-1)
        return total / (len(self.scales) * (1 + self.flip))

    def _features(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> (B, channels, h, w) float32."""
        if self.patch is not None:
            patches = [-(-side // self.stride) for side in images.shape[-2:]]
            images = resized(images, [(count - 1) * self.patch + 1 for count in patches])
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.device.type == "cuda"):
            features: Tensor = self.network(images)
        return features.float()


class _LastMap(nn.Module):
    """The last map of a network that returns a list."""

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
    """Build the extractor ``name`` and load its weights, those of ``extractor_file`` where none are given.

    ``moco`` and ``simclr``: ResNet-50; ``dino``: ViT-B/8; ``timm:NAME``: a timm model. Features are those after
    ``stage``, of a vision transformer its normalised block; negative ones count from the last. Weight files may name
    their tensors as their authors do (``model.weights.tensor_names``); ``weights`` may be ``Path("timm")`` for timm's
    own download. ``normalize`` is an option of ``model.frozen.timm_networks.normalization``; None: what the weights of
    this name expect.

    ``stride`` is the distance between two features in pixels. None: ``output_stride`` for a convolutional network, the
    patch for a transformer; for another stride a transformer sees the image enlarged or reduced. ``flip`` averages over
    image and mirror image, ``scales`` over sizes of the image. Raises ``UserError`` for an unknown model, missing
    weights and weights of another architecture.
    """
    title = f"extractor {name}"
    weights = weights or extractor_file(name)
    if weights is None:
        raise UserError(_missing(name))
    family = FAMILIES.get(name, Family(name.removeprefix("timm:"), "timm"))
    frozen = build_frozen(
        family.model,
        title=title,
        stages=[stage],
        stage_keys=f"Cluster.stage={stage}",
        weights=weights,
        normalize=normalize or family.normalize,
        output_stride=stride or output_stride,
    )
    if frozen.is_convolutional and stride not in (None, frozen.stride):
        raise UserError(f"Cluster.stride={stride}: {title} has features every {frozen.stride} pixels; give 8, 16 or 32")
    return Extractor(
        _LastMap(frozen.network),
        channels=frozen.channels[0],
        stride=stride or frozen.stride,
        patch=None if frozen.is_convolutional else frozen.stride,
        mean=frozen.mean,
        std=frozen.std,
        flip=flip,
        scales=scales,
    )


def extractor_file(name: str) -> Path | None:
    """The file of the extractor's own published weights in ``EXTRACTOR_FOLDERS``; None where there is none."""
    files = FAMILIES[name].files if name in FAMILIES else ()
    paths = [folder / file for folder in EXTRACTOR_FOLDERS for file in files]
    return next((path for path in paths if path.is_file()), None)


def _missing(name: str) -> str:
    if name not in FAMILIES or not FAMILIES[name].files:
        return f"extractor {name}: weights are missing; give weights=FILE, or weights=timm for timm's download"
    _, _, files, address = FAMILIES[name]
    first, second = (folder / files[0] for folder in EXTRACTOR_FOLDERS)
    return (
        f"extractor {name}: weights not found as {first} or {second}; fetch {address}, put it into {first.parent} and "
        "give the same command again, or name another file with weights=FILE"
    )
