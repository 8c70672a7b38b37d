"""Is what the supports show in the query at all? A similarity of the two (docs/method.md, section 12)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.episode_features import episode_features, masked_average
from model.frozen.backbone import Backbone
from model.frozen.feature_cache import FeatureCache
from model.layers.precision import at_least_float32

# Share of the query's positions that the object is looked for in, without a class head.
_SHARE = 0.1
# With one: the query is enlarged by this factor, because objects are small in it.
_ENLARGEMENT = 1.5
# Pixels of the network's input: less of a support is not looked at closely.
_LEAST_SIDE = 32


@torch.no_grad()
@at_least_float32
def presence_similarity(
    backbone: Backbone | FeatureCache,
    query_image: Tensor,
    support_images: Tensor,
    support_masks: Tensor,
    query_padding: Tensor,
    support_padding: Tensor,
) -> Tensor:
    """How much each query looks like the supports' object: (B,) cosines.

    Arguments as those of ``FSSModel.forward``, images alone. Of a backbone with a class head, the scores of the support
    object, seen closely, are compared with those of the whole query. Of another one, the object's mean feature in the
    last layer is compared with the most similar tenth of the query.
    """
    head = backbone.class_head
    if head is None:
        return _of_features(backbone, query_image, support_images, support_masks, query_padding, support_padding)
    inside = (support_masks == 1) & ~support_padding
    shots = support_masks.shape[:2]
    objects = [
        _class_scores(backbone, head, *_seen_closely(image, mask, ~padding))
        for image, mask, padding in zip(
            support_images.flatten(0, 1), inside.flatten(0, 1), support_padding.flatten(0, 1), strict=True
        )
    ]
    supports = F.normalize(torch.cat(objects), dim=-1).unflatten(0, shots).mean(dim=1)
    queries = [
        _class_scores(backbone, head, _enlarged(image, backbone.stride), ~padding)
        for image, padding in zip(query_image, query_padding, strict=True)
    ]
    return F.cosine_similarity(torch.cat(queries), supports, dim=-1)


def _class_scores(backbone: Backbone | FeatureCache, head: nn.Module, image: Tensor, counted: Tensor) -> Tensor:
    """Scores (1, N) of the ``counted`` pixels, (H, W) bool of any size, of an image (3, H', W')."""
    _, high = backbone(image[None])
    weights = F.interpolate(counted[None, None].to(high.dtype), high.shape[-2:], mode="bilinear", align_corners=True)
    # Something between the positions of the features has no weight at any: all of them stand for it.
    weights = weights if weights.any() else torch.ones_like(weights)
    scores: Tensor = head(high, weights[:, 0])
    return scores


def _seen_closely(image: Tensor, inside: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
    """The square around ``inside`` (H, W), enlarged to the size of the image (3, H, W), and ``inside`` of it.

    It lies within the ``content`` where it has room there. Without a pixel inside, the whole image and content.
    """
    if not inside.any():
        return image, content
    (top, bottom), (left, right) = (_extent(inside.any(dim=axis)) for axis in (1, 0))
    side = max(bottom - top, right - left, _LEAST_SIDE)
    (first_row, last_row), (first_column, last_column) = (_extent(content.any(dim=axis)) for axis in (1, 0))
    row = min(max((top + bottom - side) // 2, first_row), max(last_row - side, first_row))
    column = min(max((left + right - side) // 2, first_column), max(last_column - side, first_column))
    window = slice(row, row + side), slice(column, column + side)
    crop = F.interpolate(image[None, :, window[0], window[1]], image.shape[-2:], mode="bilinear", align_corners=True)[0]
    return crop, inside[window]


def _extent(chosen: Tensor) -> tuple[int, int]:
    """First of the chosen places (N,) bool, and the one after the last."""
    places = chosen.nonzero()
    return int(places[0]), int(places[-1]) + 1


def _enlarged(image: Tensor, stride: int) -> Tensor:
    """An image (3, H, W) with sides that are one more than a multiple of the stride."""
    sides = [int((side - 1) * _ENLARGEMENT) // stride * stride + 1 for side in image.shape[-2:]]
    return F.interpolate(image[None], sides, mode="bilinear", align_corners=True)[0]


def _of_features(
    backbone: Backbone | FeatureCache,
    query_image: Tensor,
    support_images: Tensor,
    support_masks: Tensor,
    query_padding: Tensor,
    support_padding: Tensor,
) -> Tensor:
    """The mean cosine of the object's mean feature and the most similar tenth of each query, in the last layer."""
    features, masks = episode_features(
        backbone, query_image, support_images, support_masks, query_padding, support_padding
    )
    support = F.normalize(features.support_high, dim=1).unflatten(0, masks.share.shape[:2])
    shares = masks.share * ~masks.support_padding
    # An object between the positions of the features has no share at any: its whole image stands for it.
    shares = torch.where(shares.sum(dim=(-2, -1), keepdim=True) > 0, shares, (~masks.support_padding).to(shares.dtype))
    objects = masked_average(support, shares).mean(dim=1)  # (B, C)
    cosine = F.cosine_similarity(features.query_high, objects[..., None, None], dim=1)  # (B, h, w)
    similarities = [one[~padding] for one, padding in zip(cosine, masks.query_padding, strict=True)]
    return torch.stack([one.topk(max(1, int(_SHARE * len(one)))).values.mean() for one in similarities])
