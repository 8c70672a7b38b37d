"""Deformable attention in plain PyTorch, on any device and in any floating type."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def deform_attn(value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> Tensor:
    """``model.ops.deform_attn`` without its checks.

    A sample is the sum of four rows of ``value`` by the corners' shares, so the whole is one sum of weighted rows
    for each query and head: an embedding bag.
    """
    N, S, M, D = value.shape
    Q = sampling_locations.shape[1]
    rows, shares = bags(value, spatial_shapes, sampling_locations, attention_weights)
    return F.embedding_bag(
        rows, value.reshape(N * S * M, D), per_sample_weights=shares.to(value.dtype), mode="sum"
    ).view(N, Q, M * D)


def deform_attn_on_one_map(value: Tensor, size: tuple[int, int], locations: Tensor, weights: Tensor) -> Tensor:
    """``deform_attn`` of a single level of ``size`` (h, w), by ``grid_sample``, which ONNX has too."""
    N, _, M, D = value.shape
    Q = locations.shape[1]
    maps = value.permute(0, 2, 3, 1).reshape(N * M, D, *size)
    grid = 2 * locations[:, :, :, 0].transpose(1, 2).flatten(0, 1) - 1  # (N * M, Q, P, 2)
    samples = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    shares = weights[:, :, :, 0].transpose(1, 2).flatten(0, 1)[:, None]  # (N * M, 1, Q, P)
    return (samples * shares).sum(dim=-1).reshape(N, M * D, Q).transpose(1, 2)


def bags(value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the N * S * M rows of ``value`` each query and head reads, and their weights: (N * Q * M, L * P * 4)."""
    N, S, M, _ = value.shape
    positions, shares = _corners(locations, spatial_shapes.to(value.device))
    shares = shares * weights[..., None]  # (N, Q, M, L, P, 4)
    head = torch.arange(M, device=value.device).view(M, 1, 1, 1)
    sample = torch.arange(N, device=value.device).view(N, 1, 1, 1, 1, 1)
    rows = (sample * S + positions) * M + head
    return rows.flatten(3).flatten(0, 2), shares.flatten(3).flatten(0, 2)


def _corners(locations: Tensor, spatial_shapes: Tensor) -> tuple[Tensor, Tensor]:
    """Positions 0..S-1 of the four pixels around each location and their shares: (N, Q, M, L, P, 4) each."""
    heights, widths = spatial_shapes.unbind(-1)  # (L,) each
    starts = (heights * widths).cumsum(0) - heights * widths
    x, x_share = _neighbours(locations[..., 0], widths[:, None])  # (N, Q, M, L, P, 2) each
    y, y_share = _neighbours(locations[..., 1], heights[:, None])
    positions = starts[:, None, None, None] + y[..., :, None] * widths[:, None, None, None] + x[..., None, :]
    return positions.flatten(-2), (y_share[..., :, None] * x_share[..., None, :]).flatten(-2)


def _neighbours(location: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The two pixels next to each location along one axis, moved inside, and their shares, 0 for those moved."""
    pixel = location * size - 0.5
    floor = pixel.detach().floor()
    share = pixel - floor
    # Far outside is as good as just outside, and fits an integer.
    first = floor.clamp(min=-2).minimum(size.to(floor.dtype)).long()
    both = torch.stack([first, first + 1], dim=-1)
    inside = (both >= 0) & (both < size[..., None])
    return both.clamp(min=0).minimum(size[..., None] - 1), torch.stack([1 - share, share], dim=-1) * inside
