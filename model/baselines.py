"""Methods without training that a network has to beat, with the same inputs and outputs as the network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.contrast import episode_contrast
from model.episode_features import EpisodeFeatures, EpisodeMasks, episode_features, masked_average
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

    def forward(
        self,
        query_image: Tensor,
        support_images: Tensor,
        support_masks: Tensor,
        query_padding: Tensor | None = None,
        support_padding: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, 2, H, W) from the arguments of ``FSSModel.forward``."""
        if self.method == "foreground":
            score = torch.ones_like(query_image[:, :1])
        else:
            features, masks = episode_features(
                self.backbone, query_image, support_images, support_masks, query_padding, support_padding
            )
            score = (
                episode_contrast(features, masks) if self.method == "nearest" else _prototype_contrast(features, masks)
            )
        score = F.interpolate(score, query_image.shape[-2:], mode="bilinear", align_corners=True)
        return torch.cat([-score, score], dim=1)


def _prototype_contrast(features: EpisodeFeatures, masks: EpisodeMasks) -> Tensor:
    """Cosine to the object prototype minus cosine to the background prototype: (B, 1, h, w)."""
    support_mid = features.support_mid.unflatten(0, masks.share.shape[:2])
    background = masks.background_share * ~masks.support_padding
    similarities = [
        F.cosine_similarity(features.query_mid, masked_average(support_mid, share).mean(dim=1)[..., None, None], dim=1)
        for share in (masks.share, background)
    ]
    return (similarities[0] - similarities[1])[:, None]
