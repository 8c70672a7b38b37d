"""timm's networks as lists of feature maps: convolutional ones at a given stride, transformers on their patches."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch.nn.functional as F
from timm.data.constants import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from torch import Tensor, nn

from model.frozen.class_head import ClassHead
from util.errors import UserError
from util.images import IMAGENET_MEAN, IMAGENET_STD

# The published ResNets are timm's with a deep stem of width 64.
_DEEP_STEM_MODELS = {"resnet50_v2": "resnet50", "resnet101_v2": "resnet101"}


class PatchGrid(nn.Module):
    """The normalised maps of chosen blocks of a timm vision transformer, as (B, C, h, w) each.

    The image is padded by half a patch (with 0, the mean colour), so that the centre of patch i is pixel i * patch.
    """

    def __init__(self, network: Any, blocks: Sequence[int], patch: int) -> None:
        super().__init__()
        self.network, self.patch = network, patch
        self.blocks = network.prune_intermediate_layers(list(blocks), prune_norm=False, prune_head=True)

    def forward(self, images: Tensor) -> list[Tensor]:
        before = (self.patch - 1) // 2
        after = self.patch - 1 - before
        images = F.pad(images, (before, after, before, after))
        h, w = (side // self.patch for side in images.shape[-2:])
        tokens = self.network.forward_intermediates(
            images, indices=self.blocks, norm=True, output_fmt="NLC", intermediates_only=True
        )
        return [x.transpose(1, 2).unflatten(2, (h, w)) for x in tokens]


@dataclass(frozen=True)
class TimmNetwork:
    """A timm model before it is created.

    ``channels`` and ``strides``, in pixels of the image, are those of each stage, of a transformer those of each block;
    ``title`` is what error messages call the model.
    """

    name: str
    title: str
    channels: list[int]
    strides: list[int]
    options: dict[str, Any]

    @property
    def is_convolutional(self) -> bool:
        """False for a vision transformer, whose maps come from ``PatchGrid``."""
        return "features_only" in self.options

    def create(self, stages: Sequence[int], *, pretrained: bool) -> tuple[nn.Module, nn.Module]:
        """The network that returns the maps of these stages, and the part of it that weights are loaded into."""
        if self.is_convolutional:
            network = _create(self.name, self.title, pretrained=pretrained, out_indices=stages, **self.options)
            return network, network
        model = _create(self.name, self.title, pretrained=pretrained, **self.options)
        return PatchGrid(model, stages, patch=self.strides[-1]), model


# Of timm's EfficientNets and MobileNets, between the last stage and the pooling; its ResNets have nothing there.
_HEAD_LAYERS = ("conv_head", "bn2")


def class_head(definition: TimmNetwork, *, pretrained: bool) -> ClassHead:
    """The classification head of a convolutional network that pools what these layers return, and nothing else.

    Raises ``UserError`` for other networks.
    """
    model = _create(definition.name, definition.title, pretrained=pretrained)
    layers = {name: getattr(model, name) for name in _HEAD_LAYERS if hasattr(model, name)}
    name = model.pretrained_cfg.get("classifier")
    classifier = getattr(model, name, None) if isinstance(name, str) else None
    inputs = layers["conv_head"].out_channels if "conv_head" in layers else definition.channels[-1]
    pools_last = len(layers) in (0, len(_HEAD_LAYERS))  # MobileNet-V3 pools before its last convolution
    if not pools_last or not isinstance(classifier, nn.Linear) or classifier.in_features != inputs:
        raise UserError(f"TRAIN.class_scores=true: {definition.title} has no classifier that is known here; use false")
    return ClassHead(layers, name, classifier)


def find_network(name: str, *, title: str, output_stride: int) -> TimmNetwork:
    """Look up the timm model ``name``, or ``resnet50_v2`` and ``resnet101_v2`` with the deep stem.

    A model without an output stride must be a transformer that takes any number of patches. Raises ``UserError``.
    """
    options: dict[str, Any] = {"features_only": True, "output_stride": output_stride}
    if name in _DEEP_STEM_MODELS:
        options |= {"stem_type": "deep", "stem_width": 64}
    elif ":" not in name and not timm.is_model(name):  # a colon marks a hub
        raise UserError(f"{title}: timm has no such model; {_hint(name)}")
    probe = _create(name, title, **options)
    if probe is None:
        options = {"dynamic_img_size": True}
        probe = _create(name, title, **options)
    stages: list[dict[str, Any]] = list(getattr(probe, "feature_info", []))
    is_transformer = len({stage["reduction"] for stage in stages}) == 1 and hasattr(probe, "prune_intermediate_layers")
    if "features_only" not in options and not is_transformer:
        raise UserError(
            f"{title}: it runs neither at output stride {output_stride} nor on patches at any size; choose a "
            "convolutional network like resnet50 or a vision transformer that takes images of any size, like "
            "vit_small_patch14_dinov2"
        )
    channels, strides = zip(*((stage["num_chs"], stage["reduction"]) for stage in stages), strict=True)
    return TimmNetwork(name, title, list(channels), list(strides), options)


def normalization(normalize: str, model_name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation on the 0..1 scale: ``imagenet``, ``inception`` (0.5), ``none`` or ``timm``."""
    if normalize == "none":
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if normalize == "inception":
        return IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
    if normalize == "timm":
        settings = timm.get_pretrained_cfg(model_name)
        if settings is not None:
            return settings.mean, settings.std
    return IMAGENET_MEAN.tolist(), IMAGENET_STD.tolist()


def _hint(name: str) -> str:
    close = difflib.get_close_matches(name, timm.list_models(), n=3)
    return f"did you mean {', '.join(close)}?" if close else "timm.list_models() lists them"


def _create(name: str, title: str, **options: Any) -> Any:
    """timm's model; None where it does not support one of the options."""
    try:
        return timm.create_model(_DEEP_STEM_MODELS.get(name, name), **options)
    except TypeError:
        return None
    except Exception as error:  # timm, its hub client and each model family raise their own kinds
        reason = " ".join(str(error).split()) or "not supported by this model"
        raise UserError(f"{title}: timm cannot build it ({reason})") from error
