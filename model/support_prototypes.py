"""The support side: attend within each shot, then cluster object and background into prototypes (SPEC section 5)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import DeformableSelfAttention, FeedForward, recomputed
from model.precision import widened

OBJECT_PROTOTYPES = 20
BACKGROUND_PROTOTYPES = 50
LAYERS = 2

# (features (N, C), k) -> (assignment (N,) int64, counts (k,))
Cluster = Callable[[Tensor, int], tuple[Tensor, Tensor]]


class SupportAttentionLayer(nn.Module):
    """Deformable self-attention within a support image and FFN, each followed by a LayerNorm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = DeformableSelfAttention(channels)
        self.feed_forward = FeedForward(channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, size: tuple[int, int], ignored: Tensor) -> Tensor:
        """x (N, h * w, C); size (h, w); ignored (N, h * w) True where padded. Returns (N, h * w, C)."""
        x = self.norms[0](x + self.dropout(self.attention(x, x, size, ignored)))
        attended: Tensor = self.norms[1](self.feed_forward(x))
        return attended


class SupportPrototypes(nn.Module):
    """Merged support features to at most 70 unit-length prototypes for each episode."""

    def __init__(self, channels: int, *, self_attention: bool = True) -> None:
        super().__init__()
        layers = LAYERS if self_attention else 0
        self.layers = nn.ModuleList(SupportAttentionLayer(channels) for _ in range(layers))

    def forward(self, features: Tensor, masks: Tensor, padding: Tensor, cluster: Cluster) -> tuple[Tensor, Tensor]:
        """features (B, K, C, h, w); masks (B, K, h, w) True on the object; padding (B, K, h, w) True where padded.

        Returns prototypes (B, 70, C), object first, and absent (B, 70) True for rows that only fill up.
        """
        B, K, C, h, w = features.shape
        pixels = widened(features).flatten(3).transpose(2, 3).reshape(B * K, h * w, C)  # sums keep float32
        for layer in self.layers:
            pixels = recomputed(layer, pixels, (h, w), padding.reshape(B * K, h * w))
        pixels = pixels.reshape(B, K * h * w, C)
        objects = with_both_sides(masks).flatten(1)
        valid = ~padding.flatten(1)
        prototypes, absent = _prototypes_of_all(pixels, objects, valid, cluster)
        return F.normalize(prototypes, dim=-1), absent


def with_both_sides(masks: Tensor) -> Tensor:
    """Give every shot's mask (..., h, w) at least some object and some background.

    Without an object pixel the central 2x2 block is set, without a background pixel the four corners are cleared.
    """
    h, w = masks.shape[-2:]
    masks = masks.clone()
    no_object = ~masks.flatten(-2).any(-1)
    centre = masks[..., h // 2 - 1 : h // 2 + 1, w // 2 - 1 : w // 2 + 1]
    centre |= no_object[..., None, None]
    no_background = masks.flatten(-2).all(-1)
    corners = masks[..., :: max(h - 1, 1), :: max(w - 1, 1)]
    corners &= ~no_background[..., None, None]
    return masks


@torch.compiler.disable  # how many pixels a cluster has depends on the masks
def _prototypes_of_all(pixels: Tensor, objects: Tensor, valid: Tensor, cluster: Cluster) -> tuple[Tensor, Tensor]:
    """pixels (B, N, C), objects and valid (B, N) bool -> prototypes (B, 70, C), absent (B, 70)."""
    episodes = [_episode_prototypes(*episode, cluster) for episode in zip(pixels, objects, valid, strict=True)]
    return torch.stack([rows for rows, _ in episodes]), torch.stack([flags for _, flags in episodes])


def _episode_prototypes(pixels: Tensor, objects: Tensor, valid: Tensor, cluster: Cluster) -> tuple[Tensor, Tensor]:
    """pixels (N, C), objects and valid (N,) bool -> (70, C) prototypes and (70,) absent flags."""
    total = OBJECT_PROTOTYPES + BACKGROUND_PROTOTYPES
    rows = torch.cat(
        [
            _prototypes(pixels[objects & valid], OBJECT_PROTOTYPES, cluster),
            _prototypes(pixels[~objects & valid], BACKGROUND_PROTOTYPES, cluster),
        ]
    )
    absent = torch.arange(total, device=pixels.device) >= len(rows)
    return F.pad(rows, (0, 0, 0, total - len(rows))), absent


def _prototypes(features: Tensor, k: int, cluster: Cluster) -> Tensor:
    """(N, C) -> (min(N, k), C): the features themselves, or the means of their clusters."""
    if len(features) <= k:
        return features
    assignment, counts = cluster(features.detach(), k)
    sums = features.new_zeros(k, features.shape[1]).index_add(0, assignment, features)
    return sums / (counts[:, None] + 0.001)
