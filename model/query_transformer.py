"""The query transformer: positions attend to their surroundings and to prototypes (docs/method.md, section 7)."""

from __future__ import annotations

from torch import Tensor, nn

from model.layers import (
    DeformableSelfAttention,
    FeedForward,
    PrototypeCrossAttention,
    recomputed,
    sine_position_encoding,
)
from model.layers.noise import Dropout
from model.layers.precision import widened

LAYERS = 2


class QueryTransformerLayer(nn.Module):
    """Deformable self-attention, FFN, prototype cross-attention, FFN, each followed by a LayerNorm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.self_attention = DeformableSelfAttention(channels)
        self.cross_attention = PrototypeCrossAttention(channels)
        self.feed_forwards = nn.ModuleList(FeedForward(channels) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(4))
        self.dropout = Dropout(0.1)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        size: tuple[int, int],
        ignored: Tensor,
        prototypes: Tensor,
        absent: Tensor,
    ) -> Tensor:
        """x, position (B, h * w, C); ignored (B, h * w) True where padded; the rest as from ``SupportPrototypes``."""
        attended = self.self_attention(x + position, x, size, ignored)
        x = self.norms[0](x + self.dropout(attended))
        x = self.norms[1](self.feed_forwards[0](x))
        x = self.norms[2](x + self.cross_attention(x, prototypes, absent))
        return self.norms[3](self.feed_forwards[1](x))


class QueryTransformer(nn.Module):
    """Two layers over the query's feature map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(QueryTransformerLayer(channels) for _ in range(LAYERS))

    def forward(self, features: Tensor, padding: Tensor, prototypes: Tensor, absent: Tensor) -> Tensor:
        """features (B, C, h, w); padding (B, h, w) True where padded; prototypes (B, P, C), absent (B, P).

        Returns (B, C, h, w).
        """
        B, C, h, w = features.shape
        x = widened(features.flatten(2).transpose(1, 2))  # (B, h * w, C); the sums along the layers keep float32
        position = sine_position_encoding(padding, C).to(x.dtype).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = recomputed(layer, x, position, (h, w), padding.flatten(1), prototypes, absent)
        return x.transpose(1, 2).reshape(B, C, h, w)
