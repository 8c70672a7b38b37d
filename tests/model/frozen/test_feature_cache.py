"""The feature cache gives the backbone's features and computes each image once."""

import torch

from model.frozen.feature_cache import FeatureCache
from tests.model.networks import tiny_backbone


def test_same_features_each_image_once() -> None:
    backbone = tiny_backbone()
    seen = []
    backbone.register_forward_hook(lambda *_: seen.append(1))
    cache = FeatureCache(backbone)
    images = torch.randn(3, 3, 33, 33)
    repeated = images[[0, 1, 0, 2, 2]]
    for ours, theirs in zip(
        cache(repeated),
        (torch.cat(maps) for maps in zip(*map(backbone, images[[0, 1, 0, 2, 2]].split(1)), strict=True)),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    assert len(seen) == 3 + 5


def test_capacity_drops_the_least_recently_used() -> None:
    backbone = tiny_backbone()
    images = torch.randn(3, 3, 33, 33)
    cache = FeatureCache(backbone)
    cache(images[:1])
    cache = FeatureCache(backbone, capacity=2 * cache.bytes)
    seen = []
    backbone.register_forward_hook(lambda *_: seen.append(1))
    cache(images[[0, 1, 0, 2]])  # 2 takes the place of 1
    cache(images[[0]])
    assert len(seen) == 3
    cache(images[[1]])
    assert len(seen) == 4
    assert cache.bytes <= cache.capacity
