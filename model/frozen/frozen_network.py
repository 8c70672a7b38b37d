"""Building a frozen network: the steps that backbone and extractor share, from a name to maps of chosen stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.frozen.folding import fold_batch_norm
from model.layers.pointwise import use_pointwise_convolutions
from model.weights import Weights, are_those_of, load_tensors, read_tensors
from util.config.words import WEIGHTS_FROM_TIMM
from util.errors import UserError


class FrozenNetwork(NamedTuple):
    """A network that maps images, normalised with ``mean`` and ``std``, to a list of maps, one for each stage.

    ``channels`` are those of the maps, ``positions`` the place in the list of each stage that was requested, ``stride``
    the pixels between two positions of the last map; ``is_convolutional`` is False for a vision transformer.
    """

    network: nn.Module
    channels: list[int]
    positions: list[int]
    stride: int
    is_convolutional: bool
    mean: Sequence[float]
    std: Sequence[float]
    class_head: nn.Module | None


def build_frozen(
    name: str,
    *,
    title: str,
    stages: Sequence[int],
    stage_keys: str,
    weights: Path | Weights | None,
    normalize: str,
    output_stride: int,
    class_scores: bool = False,
) -> FrozenNetwork:
    """Create the timm model ``name`` with its weights, reduced to ``stages``; negative ones count from the last.

    ``weights`` are a file or what was read from one, ``Path("timm")`` for timm's own download, None for random ones;
    ``normalize`` is an option of ``normalization``. With ``class_scores`` the network comes with its classification
    head, unless the weights lack it. Error messages call the model ``title`` and the stages ``stage_keys``. Raises
    ``UserError`` for an unknown model, stage or weights of another architecture.
    """
    from model.frozen.timm_networks import class_head, find_network, normalization  # timm takes seconds to import

    definition = find_network(name, title=title, output_stride=output_stride)
    total = len(definition.channels)
    if not all(-total <= stage < total for stage in stages):
        raise UserError(f"{stage_keys}: {title} has stages 0 to {total - 1}, or -{total} to -1")
    indices = [stage % total for stage in stages]
    chosen = sorted(set(indices))
    is_download = weights == WEIGHTS_FROM_TIMM
    network, model = definition.create(chosen, pretrained=is_download)
    head = class_head(definition, pretrained=is_download) if class_scores else None
    if weights is not None and not is_download:
        tensors = weights if isinstance(weights, Weights) else read_tensors(weights)
        load_tensors(model, tensors, name=name)
        head = head if head is not None and are_those_of(tensors, head) else None
        if head is not None:
            load_tensors(head, tensors, name=name)
    mean, std = normalization(normalize, name)
    return FrozenNetwork(
        network=network,
        channels=[definition.channels[index] for index in chosen],
        positions=[chosen.index(index) for index in indices],
        stride=definition.strides[chosen[-1]],
        is_convolutional=definition.is_convolutional,
        mean=mean,
        std=std,
        class_head=head,
    )


def freeze(network: nn.Module) -> nn.Module:
    """Make ``network`` frozen and fast: no gradients, evaluation mode, batch norm folded, channels-last memory."""
    network = network.requires_grad_(False).eval()
    fold_batch_norm(network)
    use_pointwise_convolutions(network)
    return network.to(memory_format=torch.channels_last)


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, C, H, W) at another size (h, w), bilinear with aligned corners; as they are where the size is theirs."""
    if list(maps.shape[-2:]) == list(size):
        return maps
    return F.interpolate(maps, list(size), mode="bilinear", align_corners=True)
