"""Is what the supports show in the query at all? A similarity of the two (docs/method.md, section 12).

Both are described by vectors: the supports' object by one, a query by one or by one for each of its positions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

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
# In a folder an object is where the similarity is above this share of the mean of the highest ones: those of one image
# in a hundred, ten at most. Images count more that resemble the most similar ones: one in fifty, twenty at most.
_FOLDER_SHARE = 0.7
_ONE_HIGHEST_IN, _MOST_HIGHEST = 100, 10
_ONE_RESEMBLED_IN, _MOST_RESEMBLED = 50, 20
# Directions of a folder are those in which images deviate at least this share of their strongest deviation.
_LEAST_DEVIATION = 0.25
# How fast the probability changes with the similarity where no calibration says it.
_SLOPE = 20.0


class FolderPresence(NamedTuple):
    """Of C classes in a folder of N images: ``similarities`` (C, N), and (C,) above which a class is in an image.

    A class that is in none has a threshold that its most similar image falls short of by what it misses to be likely.
    """

    similarities: Tensor
    thresholds: Tensor

    def probabilities(self, slope: float = _SLOPE) -> Tensor:
        """(C, N): that the class is in the image, one half at the threshold, by a logistic function of ``slope``."""
        return (slope * (self.similarities - self.thresholds[:, None])).sigmoid()


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


@torch.no_grad()
@at_least_float32
def presence_in_folder(
    objects: Tensor, queries: Iterable[Tensor], counted: Tensor, threshold: float | None
) -> FolderPresence:
    """Which images show what supports show, judged by the whole folder.

    objects (C, D) and queries, (P, D) for each of N images, as described above; counted (C, N) bool, False for images
    that are not asked for, as the supports themselves. An image is more similar where it resembles the folder's most
    similar ones, and where it is like the object in what images of this folder differ in; and the most similar ones
    show on which scale: supports differ in how similar anything is to them. ``threshold`` is the similarity from which
    on an object is likely there: where no image reaches it, a class is in none. None: in all. -inf: that is not known,
    and a class is taken to be in some image. Queries of many vectors, which would fill the memory, are compared with
    the objects alone, and not kept.
    """
    columns, whole = [], []
    for query in queries:
        columns.append(similarities(objects, query))
        if len(query) == 1:
            whole.append(query)
    direct = torch.stack(columns, dim=1)
    values = direct if len(whole) < len(columns) else _in_folder(objects, torch.cat(whole), counted)
    if threshold is None:
        return FolderPresence(values, torch.full_like(values[:, 0], -torch.inf))
    number = _one_in(_ONE_HIGHEST_IN, len(columns), most=_MOST_HIGHEST)
    surest = values.masked_fill(~counted, -torch.inf).topk(number, dim=1).values
    relative = _FOLDER_SHARE * _mean(surest, surest.isfinite())
    missing = threshold - direct.masked_fill(~counted, -torch.inf).amax(dim=1)
    return FolderPresence(values, torch.where(missing < 0, relative, surest[:, 0] + missing))


def _in_folder(objects: Tensor, queries: Tensor, counted: Tensor) -> Tensor:
    """(C, N) similarities of objects (C, D) and images (N, D): the mean of those in all there is and in the directions.

    These are the principal axes of the folder's images. In each the root of its deviation is the unit, so that the
    folder's main subject outweighs the others less.
    """
    objects, queries = F.normalize(objects, dim=-1), F.normalize(queries, dim=-1)
    values = _with_resemblance(objects, queries, counted)
    mean = queries.mean(dim=0)
    _, deviations, directions = torch.linalg.svd(queries - mean, full_matrices=False)
    used = deviations > _LEAST_DEVIATION * deviations.amax().clamp(min=1e-6)
    if not used.any():  # a single image, or all are alike
        return values
    axes = directions[used].T / deviations[used].sqrt()
    moved_objects, moved_queries = (F.normalize((vectors - mean) @ axes, dim=-1) for vectors in (objects, queries))
    return (values + _with_resemblance(moved_objects, moved_queries, counted)) / 2


def _with_resemblance(objects: Tensor, queries: Tensor, counted: Tensor) -> Tensor:
    """(C, N) of objects (C, D) and images (N, D), all of unit length: half the cosine of both, half the mean cosine of
    the image and those most similar to the object, but itself; where there is no other, the cosine of both.
    """
    direct = objects @ queries.T
    number = _one_in(_ONE_RESEMBLED_IN, len(queries), most=_MOST_RESEMBLED)
    surest = direct.masked_fill(~counted, -torch.inf).topk(number, dim=1).indices  # (C, n)
    resemblance = (queries @ queries.T)[:, surest].permute(1, 0, 2)  # (C, N, n)
    others = surest[:, None] != torch.arange(len(queries), device=surest.device)[:, None]
    return torch.where(others.any(dim=-1), (direct + _mean(resemblance, others)) / 2, direct)


def _one_in(few: int, images: int, *, most: int) -> int:
    """How many are one in ``few`` of the ``images``, rounded up, but not more than ``most``."""
    return min(most, -(-images // few))


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Over the last axis, of those that are ``counted``; 0 of none."""
    return torch.where(counted, values, 0).sum(dim=-1) / counted.sum(dim=-1).clamp(min=1)


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
    return high, torch.where(weights.any(), weights, 1.0)


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
