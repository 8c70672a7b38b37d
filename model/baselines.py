"""Methods without training that a network has to beat, with the same inputs and outputs as the network."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.contrast import episode_contrast
from model.episode_features import (
    Features,
    QueryFeatures,
    SupportFeatures,
    masked_average,
    query_features,
    query_size,
    support_features,
)
from model.frozen.backbone import Backbone
from model.frozen.feature_cache import FeatureCache


class Baseline(nn.Module):
    """``foreground``: everything is object. ``prototype``: cosine to the object's masked average minus cosine to the
    background's, over the mid features. ``nearest``: the nearest contrast over mid and high features.
    """

    def __init__(self, method: str, backbone: Backbone) -> None:
        super().__init__()
        self.method = method
        self.backbone: Backbone | FeatureCache = backbone

    @property
    def presence_threshold(self) -> float | None:
        """As ``FSSModel.presence_threshold``: -inf with a class head, which nothing calibrates here, else None."""
        return None if self.backbone.class_head is None else -math.inf

    def forward(
        self,
        query_image: Tensor,
        support_images: Tensor,
        support_masks: Tensor,
        query_padding: Tensor | None = None,
        support_padding: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, 2, H, W) from the arguments of ``FSSModel.forward``: both steps below."""
        if self.method == "foreground":
            score = torch.ones_like(query_image[:, :1])
            return torch.cat([-score, score], dim=1)
        supports = self.describe_supports(support_images, support_masks, support_padding)
        return self.segment(query_image, query_padding, supports)

    def describe_supports(self, images: Tensor, masks: Tensor, padding: Tensor | None = None) -> SupportFeatures:
        """What ``segment`` needs of supports, once for all queries; arguments as of ``FSSModel.describe_supports``."""
        return support_features(self.backbone, images, masks, padding)

    def segment(self, images: Tensor | Features, padding: Tensor | None, supports: SupportFeatures) -> Tensor:
        """Logits (B, 2, H, W) of queries; arguments as of ``FSSModel.segment``. ``foreground`` is no choice here."""
        contrast = episode_contrast if self.method == "nearest" else _prototype_contrast
        score = contrast(query_features(self.backbone, images, padding), supports)
        score = F.interpolate(score, query_size(images, padding), mode="bilinear", align_corners=True)
        return torch.cat([-score, score], dim=1)


def _prototype_contrast(query: QueryFeatures, support: SupportFeatures) -> Tensor:
    """Cosine to the object prototype minus cosine to the background prototype: (B, 1, h, w)."""
    support_mid = support.mid.unflatten(0, support.share.shape[:2])
    background = support.background_share * ~support.padding
    similarities = [
        F.cosine_similarity(query.mid, masked_average(support_mid, share).mean(dim=1)[..., None, None], dim=1)
        for share in (support.share, background)
    ]
    return (similarities[0] - similarities[1])[:, None]
