"""The *nearest* contrast: comparing query pixels with support pixels, without training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.episode_features import QueryFeatures, SupportFeatures
from model.layers.precision import at_least_float32

NEIGHBOURS = 5
# Correlation of contrast and correction at which the correction counts half, and how steeply it counts more above it
# (docs/recipe.md, "Classes that lose").
_AGREEMENT = 0.2
_STEEPNESS = 20.0


def episode_contrast(query: QueryFeatures, support: SupportFeatures) -> Tensor:
    """The *nearest* contrast of an episode's mid and high features together: (B, 1, h, w)."""
    return nearest_contrast(
        _unit_features(query.mid, query.high),
        _unit_features(support.mid, support.high).unflatten(0, support.share.shape[:2]),
        support.share,
        support.background_share,
        query.padding,
        support.padding,
    )


@at_least_float32
def nearest_contrast(
    query: Tensor,
    support: Tensor,
    share: Tensor,
    background_share: Tensor,
    query_padding: Tensor,
    support_padding: Tensor,
) -> Tensor:
    """Mean of the five highest cosines to support object pixels minus that to support background pixels.

    query (B, C, h, w) and support (B, K, C, h', w') features, concatenated maps of unit length; share and
    background_share (B, K, h', w') of object and background, 0..1, object above 0.5 and background from 0.5;
    query_padding (B, h, w) and support_padding (B, K, h', w') True where padded.
    Returns (B, 1, h, w), above 0 where the query looks like the object.

    The mean over all unpadded pixels of query and supports is subtracted first: it is common to all pixels.
    """
    B, C, h, w = query.shape
    query = query.flatten(2).transpose(1, 2)  # (B, h * w, C)
    support = support.flatten(3).transpose(2, 3).reshape(B, -1, C)
    # Features relative to the mean of all unpadded pixels.
    valid_query, valid_support = ~query_padding.flatten(1), ~support_padding.flatten(1)
    pixels = torch.cat([query, support], dim=1)
    weights = torch.cat([valid_query, valid_support], dim=1).to(query.dtype)[..., None]
    mean = (pixels * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp(min=1)
    query, support = F.normalize(query - mean, dim=-1), F.normalize(support - mean, dim=-1)
    # An object smaller than a feature cell has no share above one half: its fullest cells represent it.
    share = share.flatten(1)
    object_pixels = (share > 0.5) | (share >= share.amax(1, keepdim=True).clamp(min=1e-6))
    # What is neither, void or mostly so, lies along the object and is the background most like it.
    background_pixels = (background_share.flatten(1) >= 0.5) & ~object_pixels
    sides = torch.stack([object_pixels, background_pixels], dim=1) & valid_support[:, None]
    compare = _highest_cosines if torch.onnx.is_in_onnx_export() else highest_cosines
    to_object, to_background = compare(query, support, sides).unbind(dim=1)
    return (to_object - to_background).view(B, 1, h, w)


@torch.library.custom_op("unsupfss::highest_cosines", mutates_args=())
def highest_cosines(query: Tensor, support: Tensor, sides: Tensor) -> Tensor:
    """Means of the highest few cosines of query pixels to the support pixels of each side: (B, S, Q).

    query (B, Q, C) and support (B, N, C) of unit length; sides (B, S, N) bool. With fewer than five pixels on a side
    the mean of those; with none, 0. No gradient.

    A library operator, because on the CPU the pixels that it reads depend on the mask, which would break a compiled
    network.
    """
    return _highest_cosines(query, support, sides)


@highest_cosines.register_fake
def _(query: Tensor, support: Tensor, sides: Tensor) -> Tensor:
    return query.new_empty(*sides.shape[:2], query.shape[1])


@at_least_float32
def trust(correction: Tensor, contrast: Tensor, query_padding: Tensor) -> Tensor:
    """How far what was learnt is believed in a query, (B,) in 0..1: it counts where it agrees with the contrast.

    correction and contrast (B, h, w), both higher where the object is; query_padding (B, h, w) True where padded.
    Training teaches to prefer what is an object in most images; of an object that is none there, it says the opposite
    of the support, which then is right (docs/method.md, section 8.1).
    """
    counted = (~query_padding).to(contrast.dtype)
    counted = counted / counted.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    first, second = (values - (values * counted).sum(dim=(1, 2), keepdim=True) for values in (correction, contrast))
    covariance, *variances = (
        (product * counted).sum(dim=(1, 2)) for product in (first * second, first.square(), second.square())
    )
    correlation = covariance / (variances[0] * variances[1]).sqrt().clamp(min=1e-12)
    return torch.sigmoid(_STEEPNESS * (correlation - _AGREEMENT))


@at_least_float32
def _unit_features(*maps: Tensor) -> Tensor:
    """Feature maps (..., C_i, h, w), each scaled to unit length at every pixel, concatenated over channels."""
    return torch.cat([F.normalize(features, dim=-3) for features in maps], dim=-3)


def _highest_cosines(query: Tensor, support: Tensor, sides: Tensor) -> Tensor:
    """``highest_cosines`` in operators of PyTorch."""
    if query.device.type == "cpu" and not torch.onnx.is_in_onnx_export():
        # Padding and void are a third of the pixels, and each pixel is of one side at most. On a GPU, waiting for their
        # number would cost more than it saves; in ONNX it would make a size that is not fixed.
        means = [
            torch.stack([_mean_of_highest(one @ pixels[side].T) for side in of_image])
            for one, pixels, of_image in zip(query, support, sides, strict=True)
        ]
        return torch.stack(means)
    cosine = query @ support.mT
    means = [_mean_of_highest(cosine.masked_fill(~side[:, None], float("-inf"))) for side in sides.unbind(dim=1)]
    return torch.stack(means, dim=1)


def _mean_of_highest(cosine: Tensor) -> Tensor:
    """cosine (..., Q, N) -> (..., Q): mean of the highest few, without those of minus infinity; of none, 0."""
    highest = cosine.topk(min(NEIGHBOURS, cosine.shape[-1]), dim=-1).values
    present = highest > float("-inf")
    return torch.where(present, highest, 0).sum(-1) / present.sum(-1).clamp(min=1)
