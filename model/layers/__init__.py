"""Layers of the network: merging, deformable self-attention, prototype cross-attention, FFN, position encoding.

The equations are in docs/method.md, sections 4 and 7.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.layers.noise import dropout, own_rows
from model.layers.pointwise import PointwiseConvolution, PointwiseLinear, convolve
from model.layers.precision import at_least_float32
from model.ops import deform_attn
from model.ops.reference import deform_attn_on_one_map

POINTS = 9
# Bytes of a layer's input up to which its intermediate results are kept: 120 MiB of them.
MOST_KEPT = 4 * 2**20
# A flagged prototype gets this added to its attention logit, so that its weight underflows to zero.
FLAG_PENALTY = -10000.0


def attention_heads(channels: int) -> int:
    """12 heads where the channels divide by 12, else 8."""
    return 12 if channels % 12 == 0 else 8


def recomputed(layer: nn.Module, x: Tensor, *inputs: Any) -> Tensor:
    """``layer(x, *inputs)`` with intermediate results that backward recomputes instead of keeping, where x is large.

    A transformer layer keeps thirty times its input, half of the memory of a training step; computing it twice adds a
    tenth to a fifth to the time of a step. The results are the same to the last bit.
    """
    if not torch.is_grad_enabled() or x.numel() * x.element_size() <= MOST_KEPT:
        output: Tensor = layer(x, *inputs)
        return output
    recorded: Tensor = checkpoint(layer, x, *inputs, use_reentrant=False)
    return recorded


class Merge(nn.Module):
    """Features, prototype and further maps concatenated, through a 1x1 convolution, ReLU (docs/method.md, section 4).

    The prototype is the same at every position, so its part of the convolution is computed once, not at each.
    """

    def __init__(self, channels: int, *, maps: int = 0) -> None:
        super().__init__()
        self.parts = [channels, channels, maps]
        self.convolution = PointwiseConvolution(sum(self.parts), channels)

    def forward(self, features: Tensor, prototype: Tensor, maps: Tensor | None = None) -> Tensor:
        """features (B, C, h, w), prototype (B, C), maps (B, maps, h, w) -> (B, C, h, w)"""
        of_features, of_prototype, of_maps = self.convolution.weight.split(self.parts, dim=1)
        merged = convolve(features, of_features) + F.linear(prototype, of_prototype.flatten(1))[..., None, None]
        if maps is not None:
            merged = merged + convolve(maps.to(features.dtype), of_maps)
        return F.relu(merged, inplace=True)


class DeformableSelfAttention(nn.Module):
    """Each position attends to ``POINTS`` learned places around itself, in one feature map.

    From Zhu et al., "Deformable DETR: Deformable Transformers for End-to-End Object Detection", ICLR 2021. In training
    each value is also zeroed with probability ``dropout``, without rescaling, and attention weights are dropped with
    rescaling.
    """

    def __init__(self, channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = attention_heads(channels)
        self.dropout = dropout
        self.sampling_offsets = PointwiseLinear(channels, self.heads * POINTS * 2)
        self.attention_weights = PointwiseLinear(channels, self.heads * POINTS)
        self.value_projection = PointwiseLinear(channels, channels, bias=False)
        self.output_projection = PointwiseLinear(channels, channels, bias=False)
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
        # What is read
        value = self.value_projection(value).masked_fill(ignored[..., None], 0)
        if self.training:
            value = value * (own_rows(lambda rows: torch.rand(rows, L, 1, device=value.device), B) >= self.dropout)
        # Where, and with which weights
        offsets = self.sampling_offsets(query).view(B, L, self.heads, 1, POINTS, 2)
        weights = self.attention_weights(query).view(B, L, self.heads, 1, POINTS)
        locations, weights = _locations_and_weights(offsets, weights, size)
        weights = dropout(weights, self.dropout, self.training)
        # Sample and add up
        value = value.view(B, L, self.heads, C // self.heads)
        return self.output_projection(_sampled(value, size, locations, weights))


def _sampled(value: Tensor, size: tuple[int, int], locations: Tensor, weights: Tensor) -> Tensor:
    """``deform_attn`` on a single map; ONNX has no such operator."""
    if torch.onnx.is_in_onnx_export():
        return deform_attn_on_one_map(value, size, locations, weights)
    return deform_attn(value, torch.tensor([size]), locations, weights)


@at_least_float32
def _locations_and_weights(offsets: Tensor, weights: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """offsets (B, h * w, M, 1, P, 2) in pixels, logits (B, h * w, M, 1, P) -> locations 0..1 across the map, shares."""
    h, w = size
    y = (torch.arange(h, device=offsets.device, dtype=offsets.dtype) + 0.5) / h
    x = (torch.arange(w, device=offsets.device, dtype=offsets.dtype) + 0.5) / w
    centres = torch.stack([x.expand(h, w), y[:, None].expand(h, w)], dim=-1).view(h * w, 1, 1, 1, 2)
    locations = centres + offsets / torch.tensor([w, h], device=offsets.device)
    return locations, weights.softmax(dim=-1)


class PrototypeCrossAttention(nn.Module):
    """Query positions attend to the support's prototypes.

    From Zhang et al., "Few-Shot Segmentation via Cycle-Consistent Transformer" (CyCTR), NeurIPS 2021, which attends to
    pixels.
    """

    def __init__(self, channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = attention_heads(channels)
        self.dropout = dropout
        self.query_projection = _linear(channels, channels)
        self.key_projection = _linear(channels, channels)
        self.value_projection = _linear(channels, channels)
        self.output_projection = _linear(channels, channels)

    def forward(self, query: Tensor, prototypes: Tensor, absent: Tensor) -> Tensor:
        """query (B, L, C); prototypes (B, P, C); absent (B, P) True for padding rows. -> (B, L, C)"""
        B, L, C = query.shape
        q, k, penalty = self._compared(query, prototypes, absent)
        v = self._split(self.value_projection(prototypes))
        mixed = self._attend(q, k, v, penalty)  # (B, heads, L, C / heads)
        mixed = mixed.transpose(1, 2).reshape(B, L, C)
        return dropout(self.output_projection(mixed), self.dropout, self.training)

    def weights(self, query: Tensor, prototypes: Tensor, absent: Tensor) -> Tensor:
        """How much each position takes of each prototype: (B, heads, L, P), 0 for padding rows, 1 in all.

        Arguments as of ``forward``, which in evaluation computes its result without them.
        """
        return _attention_weights(*self._compared(query, prototypes, absent))

    def _compared(self, query: Tensor, prototypes: Tensor, absent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, heads, L, C / heads), keys (B, heads, P, C / heads), and what is added to their logits."""
        q = self._split(self.query_projection(query))
        k = self._split(self.key_projection(prototypes))
        return q, k, FLAG_PENALTY * absent[:, None, None].to(q.dtype)  # (B, 1, 1, P)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, penalty: Tensor) -> Tensor:
        """Scaled dot-product attention, in training with dropout of its weights; sizes as from ``_split``."""
        if not self.training:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=penalty)
        return dropout(_attention_weights(q, k, penalty), self.dropout, training=True) @ v

    def _split(self, x: Tensor) -> Tensor:
        B, N, C = x.shape
        return x.view(B, N, self.heads, C // self.heads).transpose(1, 2)  # (B, heads, N, C / heads)


def _attention_weights(q: Tensor, k: Tensor, penalty: Tensor) -> Tensor:
    """Queries (..., L, D), keys (..., P, D) and a summand of the logits (..., 1, P) -> shares (..., L, P)."""
    scale = q.shape[-1] ** -0.25
    return ((q * scale) @ (k.mT * scale) + penalty).softmax(dim=-1)


class FeedForward(nn.Module):
    """x + drop(W2 drop(relu(W1 x))), three times as wide inside, no biases.

    Dropout and ReLU are swapped, which changes no result and saves a copy of the wide tensor.
    """

    def __init__(self, channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.expand = _linear(channels, 3 * channels)
        self.contract = _linear(3 * channels, channels)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)"""
        hidden = F.relu(dropout(self.expand(x), self.dropout, self.training), inplace=True)
        return x + dropout(self.contract(hidden), self.dropout, self.training)


def _linear(inputs: int, outputs: int) -> PointwiseLinear:
    layer = PointwiseLinear(inputs, outputs, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer


def sine_position_encoding(padding: Tensor, channels: int) -> Tensor:
    """Sines and cosines of the position among the valid pixels, y first (as in DETR, Carion et al., ECCV 2020).

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
