"""Is what the supports show in the query at all? A similarity of the two (docs/method.md, section 12)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.episode_features import Features, episode_features, masked_average
from model.frozen.backbone import Backbone
from model.frozen.feature_cache import FeatureCache
from model.layers.precision import at_least_float32

# Share of the query's positions that the object is looked for in.
_SHARE = 0.1


@torch.no_grad()
@at_least_float32
def presence_similarity(
    backbone: Backbone | FeatureCache,
    query_image: Tensor | Features,
    support_images: Tensor | Features,
    support_masks: Tensor,
    query_padding: Tensor,
    support_padding: Tensor,
) -> Tensor:
    """How much the most similar tenth of each query looks like the supports' object: (B,) in -1..1.

    Arguments as those of ``FSSModel.forward``. The mean cosine between the object's mean feature and the query's, in
    the last layer, which tells kinds of objects apart better than the layers that a prediction is made from.
    """
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
