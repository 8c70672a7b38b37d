"""The support side: attend within each shot, then cluster into prototypes (docs/method.md, section 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.hamming_clustering import Assign
from model.layers import DeformableSelfAttention, FeedForward, recomputed
from model.layers.noise import Dropout
from model.layers.precision import at_least_float32, widened

LAYERS = 2


class SupportAttentionLayer(nn.Module):
    """Deformable self-attention within a support image and FFN, each followed by a LayerNorm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = DeformableSelfAttention(channels)
        self.feed_forward = FeedForward(channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.dropout = Dropout(0.1)

    def forward(self, x: Tensor, size: tuple[int, int], ignored: Tensor) -> Tensor:
        """x (N, h * w, C); size (h, w); ignored (N, h * w) True where padded. Returns (N, h * w, C)."""
        x = self.norms[0](x + self.dropout(self.attention(x, x, size, ignored)))
        attended: Tensor = self.norms[1](self.feed_forward(x))
        return attended


class SupportPrototypes(nn.Module):
    """Merged support features to unit-length prototypes: P slots, ``object_prototypes`` first, then background."""

    def __init__(
        self,
        channels: int,
        *,
        self_attention: bool = True,
        object_prototypes: int = 20,
        background_prototypes: int = 50,
    ) -> None:
        super().__init__()
        self.slots = (object_prototypes, background_prototypes)
        layers = LAYERS if self_attention else 0
        self.layers = nn.ModuleList(SupportAttentionLayer(channels) for _ in range(layers))

    def forward(
        self, features: Tensor, objects: Tensor, void: Tensor, padding: Tensor, assign: Assign
    ) -> tuple[Tensor, Tensor]:
        """features (B, K, C, h, w); objects, void and padding (B, K, h, w), True on the object, on what is neither
        object nor background, and where padded.

        Returns prototypes (B, P, C) and absent (B, P), True for padding rows: slots that their set does not fill.
        """
        B, K, C, h, w = features.shape
        pixels = widened(features).flatten(3).transpose(2, 3).reshape(B * K, h * w, C)  # sums keep float32
        for layer in self.layers:
            pixels = recomputed(layer, pixels, (h, w), padding.reshape(B * K, h * w))
        pixels = pixels.reshape(B, K * h * w, C)
        sides = torch.stack(with_both_sides(objects, void), dim=1) & ~padding[:, None]
        rows, absent = prototypes(pixels, sides.flatten(2), self.slots, assign)
        return F.normalize(rows, dim=-1), absent


def with_both_sides(objects: Tensor, void: Tensor) -> tuple[Tensor, Tensor]:
    """Object and background (..., h, w) bool of every shot, at least some of both.

    ``objects`` and ``void`` (..., h, w) bool: void is neither. Without an object pixel the central 2x2 block is object,
    without a background pixel the four corners are background.
    """
    h, w = objects.shape[-2:]
    centre, corners = torch.zeros_like(objects), torch.zeros_like(objects)
    centre[..., h // 2 - 1 : h // 2 + 1, w // 2 - 1 : w // 2 + 1] = True
    corners[..., :: max(h - 1, 1), :: max(w - 1, 1)] = True
    objects = objects | (centre & ~objects.flatten(-2).any(-1)[..., None, None])
    background = ~objects & ~void
    background = background | (corners & ~background.flatten(-2).any(-1)[..., None, None])
    return objects & ~background, background


@at_least_float32
def prototypes(pixels: Tensor, members: Tensor, slots: tuple[int, int], assign: Assign) -> tuple[Tensor, Tensor]:
    """pixels (B, N, C), members (B, 2, N) bool -> prototypes (B, P, C), absent (B, P) True for padding rows.

    ``members`` are the pixels of the object and those of the background; each set has a number of ``slots``.
    """
    assignment = assign(pixels.detach(), members, slots)
    parts = [_of_one_set(pixels, members[:, i], assignment[:, i], count) for i, count in enumerate(slots)]
    rows, absent = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return rows, absent


def _of_one_set(pixels: Tensor, members: Tensor, assignment: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """pixels (B, N, C), members (B, N) bool, assignment (B, N) -> prototypes (B, slots, C), absent (B, slots).

    A prototype is the mean of a cluster; a set with no more pixels than slots gives the pixels themselves.
    """
    size = members.sum(-1, keepdim=True)  # (B, 1)
    index = torch.arange(slots, device=pixels.device)
    # A product with ones and zeros: one call, the same sums on every run, and its gradient is one more product.
    belongs = (slot_of_pixels(members, assignment, slots)[:, None] == index[:, None]).to(pixels.dtype)  # (B, slots, N)
    divisor = torch.where(size > slots, belongs.sum(-1) + 0.001, 1)
    return belongs @ pixels / divisor[..., None], index >= size


def slot_of_pixels(members: Tensor, assignment: Tensor, slots: int) -> Tensor:
    """The slot whose prototype each pixel belongs to, (B, N) int64 in 0..slots - 1, -1 for pixels not in the set.

    members (B, N) bool True in the set; assignment (B, N) its clusters, which a set of few pixels does without: there
    each pixel has a slot of its own.
    """
    is_clustered = members.sum(-1, keepdim=True) > slots
    return torch.where(is_clustered, assignment, members.cumsum(-1) - 1).masked_fill(~members, -1)
