"""The support side: attend within each shot, then cluster into prototypes (docs/method.md, section 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.hamming_clustering import Assign
from model.layers import DeformableSelfAttention, FeedForward, recomputed
from model.precision import at_least_float32, widened

OBJECT_PROTOTYPES = 20
BACKGROUND_PROTOTYPES = 50
LAYERS = 2


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

    def forward(self, features: Tensor, masks: Tensor, padding: Tensor, assign: Assign) -> tuple[Tensor, Tensor]:
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
        prototypes, absent = _prototypes(pixels, objects, valid, assign)
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


@at_least_float32
def _prototypes(pixels: Tensor, objects: Tensor, valid: Tensor, assign: Assign) -> tuple[Tensor, Tensor]:
    """pixels (B, N, C), objects and valid (B, N) bool -> prototypes (B, 70, C), absent (B, 70).

    Object and background are a set of pixels each, and a prototype is the mean of a cluster. A set that has no more
    pixels than it may have prototypes gives its pixels themselves; behind the rows of both sets the rest is absent.
    """
    members = torch.stack([objects & valid, ~objects & valid], dim=1)  # (B, 2, N)
    most = torch.tensor([OBJECT_PROTOTYPES, BACKGROUND_PROTOTYPES], device=pixels.device)
    sizes = members.sum(-1)  # (B, 2)
    clustered = sizes > most
    places = members.cumsum(-1) - 1
    assignment = assign(pixels.detach(), members, (OBJECT_PROTOTYPES, BACKGROUND_PROTOTYPES))
    row_in_set = torch.where(clustered[..., None], assignment, places)
    rows = sizes.minimum(most)
    row = torch.where(members[:, 0], row_in_set[:, 0], row_in_set[:, 1] + rows[:, :1])  # (B, N)
    row = torch.where(members.any(1), row, -1)
    index = torch.arange(OBJECT_PROTOTYPES + BACKGROUND_PROTOTYPES, device=pixels.device)
    # A product with ones and zeros: one call, the same sums on every run, and its gradient is one more product.
    belongs = (row[:, None] == index[:, None]).to(pixels.dtype)  # (B, 70, N)
    of_clusters = torch.where(index < rows[:, :1], clustered[:, :1], clustered[:, 1:])
    divisor = torch.where(of_clusters, belongs.sum(-1) + 0.001, 1)
    return belongs @ pixels / divisor[..., None], index >= rows.sum(-1, keepdim=True)
