"""MoCo-v2: each image must find the other view of itself among the keys of images seen before it.

Sources: He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020
(arXiv:1911.05722); Chen et al., "Improved Baselines with Momentum Contrastive Learning" (arXiv:2003.04297).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.layers.precision import at_least_float32
from util.distributed import joined
from util.images import IMAGENET_MEAN, IMAGENET_STD

# The keys of a batch are computed in this many groups, each with its own batch statistics.
_KEY_GROUPS = 4
# Last stages of the backbone whose pooled features enter the head: the earlier ones carry the first steps.
STAGES = 3


class MoCo(nn.Module):
    """Query encoder, momentum key encoder and the queue of keys.

    Each of several processes has its own share of the batch with its own batch statistics; the keys of all processes
    enter every queue, so that parameters and queues stay equal. Encoders may run under autocast; the rest is float32.

    Attributes:
        query_encoder: the network that learns, (B, H, W, 3) uint8 -> (B, E) unit length.
        key_encoder: its moving average; no gradient reaches it.
        queue: (Q, E) keys of the latest images, unit length.
        pointer: (), the oldest row of the queue.
    """

    queue: Tensor
    pointer: Tensor

    def __init__(self, encoder: Encoder, *, queue: int, momentum: float, temperature: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.temperature = temperature
        self.query_encoder = encoder
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.register_buffer("queue", functional.normalize(torch.randn(queue, encoder.embedding), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def forward(self, query_images: Tensor, key_images: Tensor) -> Tensor:
        """Contrast two views of the same B images, each (B, H, W, 3) uint8 RGB.

        Returns logits (B, 1 + Q) float32; the correct answer is always column 0. The key encoder first takes one step
        towards the query encoder; afterwards the keys replace the oldest ones of the queue.
        """
        self.update_key_encoder()
        queries = self.query_encoder(query_images)
        keys = self.keys(key_images)
        logits = contrast_logits(queries, keys, self.queue, self.temperature)
        self.enqueue(joined(keys))
        return logits

    @torch.no_grad()
    def update_key_encoder(self) -> None:
        """key <- momentum * key + (1 - momentum) * query, for every parameter."""
        pairs = zip(self.key_encoder.parameters(), self.query_encoder.parameters(), strict=True)
        for key, query in pairs:
            key.lerp_(query, 1 - self.momentum)

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        """Keys (B, E) of ``images`` (B, H, W, 3), in order.

        Batch statistics would reveal which key was computed together with which query. MoCo's remedy, shuffling the
        batch between devices, becomes random groups with separate batch statistics on a single device.
        """
        shuffled = torch.randperm(len(images), device=images.device)
        groups = images[shuffled].tensor_split(min(_KEY_GROUPS, len(images) // 2))
        keys = torch.cat([self.key_encoder(group) for group in groups])
        return keys[shuffled.argsort()]

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Write ``keys`` (B, E) over the oldest rows of the queue, B at most Q, wrapping around at its end."""
        rows = (self.pointer + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue = self.queue.index_copy(0, rows, keys)  # not in place: the backward pass needs the old queue
        self.pointer = (self.pointer + len(keys)) % len(self.queue)


class Encoder(nn.Module):
    """A backbone, the means over its last feature maps, and a two-layer head on the unit sphere.

    ``backbone`` maps (B, 3, H, W) to a list of feature maps with ``channels`` channels each. The head has batch norm,
    like that of MoCo v3: without it a small network trained from scratch maps all images to one point. Only the
    backbone is kept after training.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, *, channels: Sequence[int], hidden: int = 512, embedding: int = 128
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.backbone = backbone
        self.head = nn.Sequential(
            nn.Linear(sum(channels[-STAGES:]), hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, embedding, bias=False),
            nn.BatchNorm1d(embedding, affine=False),
        )
        self.register_buffer("mean", torch.from_numpy(255 * IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.from_numpy(255 * IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 RGB -> (B, E) float32 of unit length."""
        pixels = (images.permute(0, 3, 1, 2) - self.mean) / self.std  # (B, 3, H, W), channels last in memory
        maps = self.backbone(pixels)[-STAGES:]
        features = torch.cat([features.mean(dim=(2, 3)) for features in maps], dim=1)
        return functional.normalize(self.head(features).float(), dim=1)


@at_least_float32
def contrast_logits(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Cosines over the temperature: with the own key in column 0, then with every key of the queue.

    ``queries`` and ``keys`` (B, E), ``queue`` (Q, E), all of unit length. Returns (B, 1 + Q); InfoNCE is the
    cross-entropy of these logits with target 0. No gradient reaches ``keys`` or ``queue``.
    """
    positive = (queries * keys.detach()).sum(dim=1, keepdim=True)  # (B, 1)
    negative = queries @ queue.detach().T  # (B, Q)
    return torch.cat([positive, negative], dim=1) / temperature
