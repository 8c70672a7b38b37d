"""Small networks and episodes for the tests."""

from __future__ import annotations

import timm
import torch
from torch import Tensor

from model import FSSModel
from model.frozen.backbone import Backbone, build_backbone
from model.frozen.feature_cache import FeatureCache
from model.fss_network import NetworkSettings
from model.presence import describe_objects, describe_queries, similarities

# Of a small network on small images.
SETTINGS = NetworkSettings(
    backbone="mobilenetv2_035",
    backbone_normalize="imagenet",
    mid_stages=(-2,),
    high_stage=-1,
    hidden_dims=16,
    support_self_attention=True,
    contrast_residual=False,
    compat="ours",
    val_size=65,
)
# timm's names of the deep stem -> the published ones.
DEEP_STEM = {"conv1.0": "conv1", "conv1.1": "bn1", "conv1.3": "conv2", "conv1.4": "bn2", "conv1.6": "conv3"}


def tiny_backbone() -> Backbone:
    """A narrow MobileNet-V2 with random weights; its maps have 1/8 of the input's size."""
    torch.manual_seed(0)
    return build_backbone("mobilenetv2_035", weights=None, normalize="imagenet", mid_stages=[-2])


def tiny_model(*, contrast_residual: bool = False, support_self_attention: bool = True) -> FSSModel:
    """The whole network, small, in evaluation mode."""
    backbone = tiny_backbone()
    return FSSModel(
        backbone,
        channels=16,
        contrast_residual=contrast_residual,
        support_self_attention=support_self_attention,
    ).eval()


def random_episode(*, batch: int = 2, shots: int = 1, size: int = 65) -> tuple[Tensor, Tensor, Tensor]:
    """query_image, support_images, support_masks with a rectangle as the object."""
    generator = torch.Generator().manual_seed(7)
    query = torch.randn(batch, 3, size, size, generator=generator)
    supports = torch.randn(batch, shots, 3, size, size, generator=generator)
    masks = torch.zeros(batch, shots, size, size, dtype=torch.int64)
    masks[:, :, size // 4 : size // 2, size // 3 : size - 8] = 1
    return query, supports, masks


def semseg_resnet50(*, counters: bool) -> dict[str, Tensor]:
    """The published deep-stem ResNet-50: 277 tensors, or 332 with the counters of batch norm."""
    torch.manual_seed(0)
    state = timm.create_model("resnet50", stem_type="deep", stem_width=64).state_dict()
    renamed = {}
    for key, value in state.items():
        key = key.replace("bn1.", "bn3.", 1) if key.startswith("bn1.") else key
        stem = ".".join(key.split(".")[:2])
        renamed[key.replace(stem, DEEP_STEM[stem]) if stem in DEEP_STEM else key] = value
    return renamed if counters else {key: value for key, value in renamed.items() if "num_batches" not in key}


def presence_similarity(
    backbone: Backbone | FeatureCache,
    query: Tensor,
    supports: Tensor,
    masks: Tensor,
    query_padding: Tensor,
    support_padding: Tensor,
) -> Tensor:
    """Similarity of each query (B, 3, H, W) and its own supports (B, K, 3, H, W): (B,)."""
    objects = describe_objects(backbone, supports, masks, support_padding)
    queries = describe_queries(backbone, query, query_padding)
    return torch.stack([similarities(one[None], each)[0] for one, each in zip(objects, queries, strict=True)])
