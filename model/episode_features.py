"""The start of every method: frozen features of query and supports, and masks at feature resolution."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.frozen.backbone import Backbone
from model.frozen.feature_cache import FeatureCache
from model.layers.precision import widened


class EpisodeMasks(NamedTuple):
    """Masks at feature resolution. Letters: B episodes, K shots, (h, w) the query's map, (h', w') the supports'."""

    share: Tensor  # (B, K, h', w') of object, 0..1
    background_share: Tensor  # (B, K, h', w') of background, 0..1; what neither has is void
    objects: Tensor  # (B, K, h', w') True on the object
    void: Tensor  # (B, K, h', w') True on what is neither object nor background
    query_padding: Tensor  # (B, h, w) True where padded
    support_padding: Tensor  # (B, K, h', w') True where padded


class Features(NamedTuple):
    """Frozen features of images, which a network takes in their place: mid (N, Cm, h, w), high (N, Ch, h, w)."""

    mid: Tensor
    high: Tensor


class EpisodeFeatures(NamedTuple):
    """Frozen features. They take hundreds of megabytes and should not be kept longer than needed."""

    query_mid: Tensor  # (B, Cm, h, w)
    query_high: Tensor  # (B, Ch, h, w)
    support_mid: Tensor  # (B * K, Cm, h', w'), as convolutions would copy (B, K, ...)
    support_high: Tensor  # (B * K, Ch, h', w')


def episode_features(
    backbone: Backbone | FeatureCache,
    query_image: Tensor | Features,
    support_images: Tensor | Features,
    support_masks: Tensor,
    query_padding: Tensor | None,
    support_padding: Tensor | None,
) -> tuple[EpisodeFeatures, EpisodeMasks]:
    """Features without gradients, and masks (docs/method.md, section 2); arguments as in ``FSSModel.forward``."""
    query_mid, query_high = _frozen(backbone, query_image)
    support_mid, support_high = _frozen(backbone, support_images)
    query_size, support_size = query_high.shape[-2:], support_high.shape[-2:]
    exact = torch.promote_types(query_mid.dtype, torch.float32)
    object_share, background_share = (
        F.interpolate((support_masks == value).to(exact), support_size, mode="bilinear", align_corners=True)
        for value in (1, 0)
    )
    masks = EpisodeMasks(
        share=object_share,
        background_share=background_share,
        objects=_nearest(support_masks == 1, support_size),
        void=_nearest(support_masks > 1, support_size),
        query_padding=_padding(query_padding, query_image, query_size),
        support_padding=_padding(support_padding, support_images, support_size),
    )
    return EpisodeFeatures(query_mid, query_high, support_mid, support_high), masks


def masked_average(features: Tensor, share: Tensor) -> Tensor:
    """Masked average pooling: features (..., C, h, w), share (..., h, w) in 0..1 -> (..., C).

    docs/method.md, section 2.
    """
    total = (features * share.unsqueeze(-3)).sum(dim=(-2, -1))
    return total / (share.sum(dim=(-2, -1)) + 0.0005).unsqueeze(-1)


def _frozen(backbone: Backbone | FeatureCache, images: Tensor | Features) -> tuple[Tensor, Tensor]:
    """Mid (N, Cm, h, w) and high (N, Ch, h, w) of images (..., 3, H, W), N in all; given ones in single precision."""
    if isinstance(images, Features):
        return widened(images.mid), widened(images.high)
    mid, high = backbone(images.flatten(0, -4))
    return mid, high


def _padding(padding: Tensor | None, images: Tensor | Features, size: torch.Size) -> Tensor:
    """Padding at feature resolution; without any, nothing is padded."""
    if padding is not None:
        return _nearest(padding, size)
    assert isinstance(images, Tensor), "features come with padding"
    return torch.zeros(*images.shape[:-3], *size, dtype=torch.bool, device=images.device)


def _nearest(mask: Tensor, size: torch.Size) -> Tensor:
    """Boolean (..., H, W) at another size, position i taking floor(i * in / out)."""
    flat = mask.flatten(0, -3)[:, None].float()
    return F.interpolate(flat, size, mode="nearest")[:, 0].reshape(*mask.shape[:-2], *size) > 0.5
