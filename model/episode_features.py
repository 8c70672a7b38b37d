"""The start of every method: frozen features of query and supports, and masks at feature resolution."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.frozen.backbone import Backbone
from model.frozen.feature_cache import FeatureCache
from model.layers.precision import widened


class Features(NamedTuple):
    """Frozen features of images, which a network takes in their place: mid (N, Cm, h, w), high (N, Ch, h, w)."""

    mid: Tensor
    high: Tensor


class QueryFeatures(NamedTuple):
    """Frozen features of queries, and where they are padded. Letters: B episodes, (h, w) the map."""

    mid: Tensor  # (B, Cm, h, w)
    high: Tensor  # (B, Ch, h, w)
    padding: Tensor  # (B, h, w) True where padded


class SupportFeatures(NamedTuple):
    """Frozen features of K supports in each of B episodes, and their masks at the size of the features, (h', w').

    Features take hundreds of megabytes in training and should not be kept longer than needed.
    """

    mid: Tensor  # (B * K, Cm, h', w'), as convolutions would copy (B, K, ...)
    high: Tensor  # (B * K, Ch, h', w')
    share: Tensor  # (B, K, h', w') of object, 0..1
    background_share: Tensor  # (B, K, h', w') of background, 0..1; what neither has is void
    objects: Tensor  # (B, K, h', w') True on the object
    void: Tensor  # (B, K, h', w') True on what is neither object nor background
    padding: Tensor  # (B, K, h', w') True where padded


def query_features(
    backbone: Backbone | FeatureCache, images: Tensor | Features, padding: Tensor | None
) -> QueryFeatures:
    """Features without gradients (docs/method.md, section 2); arguments as in ``FSSModel.segment``."""
    mid, high = _frozen(backbone, images)
    return QueryFeatures(mid, high, _padding(padding, images, high.shape[-2:]))


def support_features(
    backbone: Backbone | FeatureCache, images: Tensor | Features, masks: Tensor, padding: Tensor | None
) -> SupportFeatures:
    """Features without gradients, and masks (docs/method.md, section 2).

    Arguments as in ``FSSModel.describe_supports``.
    """
    mid, high = _frozen(backbone, images)
    size = high.shape[-2:]
    exact = torch.promote_types(mid.dtype, torch.float32)
    share, background_share = (
        F.interpolate((masks == value).to(exact), size, mode="bilinear", align_corners=True) for value in (1, 0)
    )
    return SupportFeatures(
        mid,
        high,
        share=share,
        background_share=background_share,
        objects=_nearest(masks == 1, size),
        void=_nearest(masks > 1, size),
        padding=_padding(padding, images, size),
    )


def query_size(images: Tensor | Features, padding: Tensor | None) -> torch.Size:
    """(H, W) of queries; features in the place of images come with padding, which has it."""
    of_size = images if padding is None else padding
    assert isinstance(of_size, Tensor), "features come with padding"
    return of_size.shape[-2:]


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
