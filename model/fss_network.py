"""The network, wired as in the paper's figure: features, prior, support prototypes, query transformer, classifier."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backbone import Backbone
from model.contrast import episode_contrast
from model.feature_cache import FeatureCache
from model.features import EpisodeFeatures, episode_features, masked_average
from model.prior import prior
from model.query_transformer import QueryTransformer
from model.support_prototypes import HammingClustering, SupportPrototypes

# Before training, the logits are the nearest contrast times this.
CONTRAST_SCALE = 15.0


class FSSModel(nn.Module):
    """Segments in a query image what the support masks show, from one or more support images.

    Letters: B episodes, K shots, (H, W) the input, (h, w) its features, C the hidden channels.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        channels: int = 256,
        support_self_attention: bool = True,
        contrast_residual: bool = False,
    ) -> None:
        """With ``contrast_residual`` the untrained network is the *nearest* method, and training adds to it."""
        super().__init__()
        self.backbone: Backbone | FeatureCache = backbone
        self.adjust_query = _adjust(backbone.mid_channels, channels)
        self.adjust_support = _adjust(backbone.mid_channels, channels)
        self.merge_query = _merge(2 * channels + 1, channels)
        self.merge_support = _merge(2 * channels, channels)
        self.hamming_clustering = HammingClustering()
        self.support_prototypes = SupportPrototypes(channels, self_attention=support_self_attention)
        self.query_transformer = QueryTransformer(channels)
        self.classifier = _classifier(channels)
        self.contrast_scale = nn.Parameter(torch.tensor(CONTRAST_SCALE)) if contrast_residual else None
        if contrast_residual:
            for parameter in self.classifier[-1].parameters():
                nn.init.zeros_(parameter)

    def cluster(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """features (N, C), k -> assignment (N,) int64, counts (k,). An instance's ``cluster`` may be replaced."""
        assignment, counts = self.hamming_clustering(features, k)
        return assignment, counts

    def forward(
        self,
        query_image: Tensor,
        support_images: Tensor,
        support_masks: Tensor,
        query_padding: Tensor | None = None,
        support_padding: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, 2, H, W): background, object.

        query_image (B, 3, H, W) and support_images (B, K, 3, H, W) ImageNet-normalised float; support_masks
        (B, K, H, W) 0 background, 1 object, 255 void; query_padding (B, H, W) and support_padding (B, K, H, W)
        True where padded (None: nothing is).
        """
        features = episode_features(
            self.backbone, query_image, support_images, support_masks, query_padding, support_padding
        )
        query, support = self._merged(features)
        prototypes, absent = self.support_prototypes(support, features.objects, features.support_padding, self.cluster)
        attended = self.query_transformer(query, features.query_padding, prototypes, absent)
        logits = self.classifier(attended)
        if self.contrast_scale is not None:
            contrast = episode_contrast(features)
            logits = logits + self.contrast_scale * torch.cat([-contrast, contrast], dim=1)
        return F.interpolate(logits, query_image.shape[-2:], mode="bilinear", align_corners=True)

    def _merged(self, features: EpisodeFeatures) -> tuple[Tensor, Tensor]:
        """Query (B, C, h, w) and supports (B, K, C, h, w), each told the prototype (SPEC sections 2 to 4)."""
        query = self.adjust_query(features.query_mid)
        support = _per_shot(self.adjust_support, features.support_mid)
        own_prototypes = masked_average(support, features.share)[..., None, None]  # (B, K, C, 1, 1)
        prototype = own_prototypes.mean(dim=1).expand_as(query)
        prior_map = prior(features.query_high, features.support_high, features.share)
        query = self.merge_query(torch.cat([query, prototype, prior_map], dim=1))
        support = _per_shot(self.merge_support, torch.cat([support, own_prototypes.expand_as(support)], dim=2))
        return query, support


def _per_shot(layer: nn.Module, support: Tensor) -> Tensor:
    """Apply ``layer`` to each shot of (B, K, ...)."""
    output: Tensor = layer(support.flatten(0, 1)).unflatten(0, support.shape[:2])
    return output


def _adjust(inputs: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, channels, 1, bias=False), nn.ReLU(), nn.Dropout2d(0.5))


def _merge(inputs: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, channels, 1, bias=False), nn.ReLU())


def _classifier(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Dropout2d(0.1),
        nn.Conv2d(channels, 2, 1),
    )
