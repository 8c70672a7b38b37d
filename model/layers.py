"""Layers of the transformer: deformable self-attention, prototype cross-attention, FFN (SPEC section 7)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.ops import deform_attn

POINTS = 9
# A flagged prototype gets this added to its attention logit, so that its weight underflows to zero.
FLAG_PENALTY = -10000.0


def attention_heads(channels: int) -> int:
    """12 heads where the channels divide by 12, else 8."""
    return 12 if channels % 12 == 0 else 8


class DeformableSelfAttention(nn.Module):
    """Each position looks at ``POINTS`` learned places around itself, in one feature map.

    In training each value is also zeroed with probability ``dropout``, without rescaling, and the attention
    weights are dropped with rescaling.
    """

    def __init__(self, channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = attention_heads(channels)
        self.dropout = dropout
        self.sampling_offsets = nn.Linear(channels, self.heads * POINTS * 2)
        self.attention_weights = nn.Linear(channels, self.heads * POINTS)
        self.value_projection = nn.Linear(channels, channels, bias=False)
        self.output_projection = nn.Linear(channels, channels, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        """Point k of head t starts k + 1 pixels away in direction 2 pi t / heads, all with equal weight."""
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, POINTS + 1)[None, :, None]
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_((directions[:, None] * steps).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        nn.init.xavier_uniform_(self.value_projection.weight)
        nn.init.xavier_uniform_(self.output_projection.weight)

    def forward(self, query: Tensor, value: Tensor, size: tuple[int, int], ignored: Tensor) -> Tensor:
        """query, value (B, h * w, C); size (h, w); ignored (B, h * w) True where padded. Returns (B, h * w, C)."""
        B, L, C = query.shape
        value = self.value_projection(value).masked_fill(ignored[..., None], 0)
        if self.training:
            value = value * (torch.rand(B, L, 1, device=value.device) >= self.dropout)
        offsets = self.sampling_offsets(query).view(B, L, self.heads, 1, POINTS, 2)
        weights = self.attention_weights(query).view(B, L, self.heads, POINTS).softmax(dim=-1)
        weights = F.dropout(weights, self.dropout, self.training)[:, :, :, None]
        h, w = size
        scale = torch.tensor([w, h], device=query.device)
        locations = _pixel_centres(size, query)[None, :, None, None, None] + offsets / scale
        sampled = deform_attn(value.view(B, L, self.heads, C // self.heads), torch.tensor([[h, w]]), locations, weights)
        return self.output_projection(sampled)


def _pixel_centres(size: tuple[int, int], like: Tensor) -> Tensor:
    """(h * w, 2): (x, y) of every pixel's centre, 0..1 across the map."""
    h, w = size
    y = (torch.arange(h, device=like.device, dtype=like.dtype) + 0.5) / h
    x = (torch.arange(w, device=like.device, dtype=like.dtype) + 0.5) / w
    return torch.stack([x.expand(h, w), y[:, None].expand(h, w)], dim=-1).view(h * w, 2)


class PrototypeCrossAttention(nn.Module):
    """Query positions attend to the support's prototypes."""

    def __init__(self, channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = attention_heads(channels)
        self.dropout = dropout
        self.query_projection = _linear(channels, channels)
        self.key_projection = _linear(channels, channels)
        self.value_projection = _linear(channels, channels)
        self.output_projection = _linear(channels, channels)

    def forward(self, query: Tensor, prototypes: Tensor, absent: Tensor) -> Tensor:
        """query (B, L, C); prototypes (B, P, C); absent (B, P) True where a row is only filling. -> (B, L, C)"""
        B, L, C = query.shape
        q = self._split(self.query_projection(query))
        k = self._split(self.key_projection(prototypes))
        v = self._split(self.value_projection(prototypes))
        logits = q @ k.transpose(-1, -2) / math.sqrt(C / self.heads)  # (B, heads, L, P)
        logits = logits + FLAG_PENALTY * absent[:, None, None].to(logits.dtype)
        attention = F.dropout(logits.softmax(dim=-1), self.dropout, self.training)
        mixed = (attention @ v).transpose(1, 2).reshape(B, L, C)
        return F.dropout(self.output_projection(mixed), self.dropout, self.training)

    def _split(self, x: Tensor) -> Tensor:
        B, N, C = x.shape
        return x.view(B, N, self.heads, C // self.heads).transpose(1, 2)  # (B, heads, N, C / heads)


class FeedForward(nn.Module):
    """x + drop(W2 drop(relu(W1 x))), three times as wide inside, no biases."""

    def __init__(self, channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.expand = _linear(channels, 3 * channels)
        self.contract = _linear(3 * channels, channels)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)"""
        hidden = F.dropout(F.relu(self.expand(x)), self.dropout, self.training)
        return x + F.dropout(self.contract(hidden), self.dropout, self.training)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer


def sine_position_encoding(padding: Tensor, channels: int) -> Tensor:
    """Sines and cosines of the position among the valid pixels, y first.

    padding (B, h, w) True where padded; channels divisible by 4. Returns (B, channels, h, w) float32: half of the
    channels for y, half for x; of these, number j has frequency 10000^(-2 floor(j / 2) / (channels / 2)), a sine
    for even j, a cosine for odd j.
    """
    half = channels // 2
    valid = (~padding).float()
    frequency = 10000 ** (-2 * (torch.arange(half, device=padding.device) // 2) / half)
    axes = []
    for axis in (1, 2):
        position = valid.cumsum(axis)
        last = position.narrow(axis, position.shape[axis] - 1, 1)
        angle = (position / (last + 1e-6) * 2 * math.pi)[..., None] * frequency
        axes.append(torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1).flatten(-2))
    return torch.cat(axes, dim=-1).permute(0, 3, 1, 2)
