"""Is what the supports show in the query at all? A similarity of the two (docs/method.md, section 12).

Both are described by vectors: the supports' object by one, a query by one or by one for each of its positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from model.episode_features import masked_average
from model.frozen.backbone import Backbone
from model.frozen.feature_cache import FeatureCache
from model.layers.precision import at_least_float32

# Share of a query's vectors that the object is looked for in.
_SHARE = 0.1
# For a class head a query is enlarged by this factor, because objects are small in it.
_ENLARGEMENT = 1.5
# Pixels of the network's input: less of a support is not looked at closely.
_LEAST_SIDE = 32
# In a folder an object is where the similarity reaches this share of the mean of so many highest ones.
_FOLDER_SHARE, _HIGHEST = 0.85, 5


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
    """How much each query looks like the supports' object: (B,) in -1..1.

    Arguments as those of ``FSSModel.forward``, images alone. The mean cosine between the object and the most similar
    tenth of the query.
    """
    objects = describe_objects(backbone, support_images, support_masks, support_padding)
    queries = describe_queries(backbone, query_image, query_padding)
    return torch.stack([similarities(one[None], query)[0] for one, query in zip(objects, queries, strict=True)])


@torch.no_grad()
@at_least_float32
def describe_objects(backbone: Backbone | FeatureCache, images: Tensor, masks: Tensor, padding: Tensor) -> Tensor:
    """What supports show, (B, D): images (B, K, 3, H, W), masks (B, K, H, W) 1 object, padding (B, K, H, W).

    Of a backbone with a class head the scores of the object, seen closely; else its mean feature in the last layer. The
    mean over the shots of unit vectors.
    """
    described = [
        _of_object(backbone, image, mask == 1, ~padded)
        for image, mask, padded in zip(images.flatten(0, 1), masks.flatten(0, 1), padding.flatten(0, 1), strict=True)
    ]
    return F.normalize(torch.stack(described), dim=-1).unflatten(0, images.shape[:2]).mean(dim=1)


@torch.no_grad()
@at_least_float32
def describe_queries(backbone: Backbone | FeatureCache, images: Tensor, padding: Tensor) -> list[Tensor]:
    """What each query shows, (P, D): images (B, 3, H, W), padding (B, H, W).

    Of a backbone with a class head the scores of the whole query, enlarged (P = 1); else the last layer's features at
    all unpadded positions.
    """
    return [_of_query(backbone, image, ~padded) for image, padded in zip(images, padding, strict=True)]


def similarities(objects: Tensor, query: Tensor) -> Tensor:
    """Of objects (B, D) and a query (P, D): (B,) mean cosines to the most similar tenth of the query."""
    cosines = F.normalize(objects, dim=-1) @ F.normalize(query, dim=-1).T
    return cosines.topk(max(1, int(_SHARE * len(query))), dim=1).values.mean(dim=1)


def folder_threshold(similarities: Sequence[float], threshold: float) -> float:
    """The similarity above which an object is in an image of a folder, from those of all its images (one or more).

    Supports differ in how similar anything is to them; the most similar images of a folder show on which scale.
    ``threshold`` is the lowest that counts anywhere: the object may be in no image.
    """
    highest = sorted(similarities)[-_HIGHEST:]
    return max(threshold, _FOLDER_SHARE * sum(highest) / len(highest))


def _of_object(backbone: Backbone | FeatureCache, image: Tensor, inside: Tensor, content: Tensor) -> Tensor:
    """(D,) of an image (3, H, W) with an object and a content (H, W) bool."""
    inside = inside & content
    if backbone.class_head is not None:
        image, inside = _seen_closely(image, inside, content)
        high, weights = _weighted(backbone, image, inside)
        scores: Tensor = backbone.class_head(high, weights)[0]
        return scores
    high, weights = _weighted(backbone, image, inside if inside.any() else content)
    return masked_average(F.normalize(high, dim=1), weights)[0]


def _of_query(backbone: Backbone | FeatureCache, image: Tensor, content: Tensor) -> Tensor:
    """(P, D) of an image (3, H, W) with a content (H, W) bool."""
    if backbone.class_head is not None:
        scores: Tensor = backbone.class_head(*_weighted(backbone, _enlarged(image, backbone.stride), content))
        return scores
    high, weights = _weighted(backbone, image, content)
    return high[0, :, weights[0] > 0.5].T


def _weighted(backbone: Backbone | FeatureCache, image: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """The last layer (1, C, h, w) of an image (3, H, W), and how far its positions are ``counted``: (1, h, w), 0..1.

    ``counted`` (H', W') bool is of any size. What lies between the positions has no weight at any: then all count.
    """
    _, high = backbone(image[None])
    share = counted[None, None].to(high.dtype)
    weights = F.interpolate(share, high.shape[-2:], mode="bilinear", align_corners=True)[0]
    return high, weights if weights.any() else torch.ones_like(weights)


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
