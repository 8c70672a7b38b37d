"""A cache of the frozen features of images that occur repeatedly, as in a test."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import torch
from torch import Tensor, nn

from model.frozen.backbone import Backbone

# Bytes of features that are kept; the least recently used go first.
CAPACITY = 2 * 2**30


class FeatureCache(nn.Module):
    """Replaces a frozen backbone and returns the same features; every distinct image is computed once.

    Images are distinguished by their content.
    """

    def __init__(self, backbone: Backbone | FeatureCache, capacity: int = CAPACITY) -> None:
        super().__init__()
        self.backbone = backbone
        self.capacity = capacity
        self.bytes = 0
        self._features: OrderedDict[bytes, tuple[Tensor, Tensor]] = OrderedDict()

    @property
    def class_head(self) -> nn.Module | None:
        """That of the backbone."""
        return self.backbone.class_head

    @property
    def stride(self) -> int:
        """That of the backbone."""
        return self.backbone.stride

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, 3, H, W) -> mid (B, Cm, h, w), high (B, Ch, h, w), as the backbone returns them."""
        pairs = [self._look_up(image[None]) for image in images]
        return torch.cat([mid for mid, _ in pairs]), torch.cat([high for _, high in pairs])

    def _look_up(self, image: Tensor) -> tuple[Tensor, Tensor]:
        key = hashlib.blake2b(image.cpu().numpy().tobytes(), digest_size=16).digest()
        if key not in self._features:
            self._features[key] = self.backbone(image)
            self.bytes += _size(self._features[key])
        self._features.move_to_end(key)
        features = self._features[key]
        while self.bytes > self.capacity and len(self._features) > 1:
            _, dropped = self._features.popitem(last=False)
            self.bytes -= _size(dropped)
        return features


def _size(features: tuple[Tensor, Tensor]) -> int:
    return sum(map_.numel() * map_.element_size() for map_ in features)
