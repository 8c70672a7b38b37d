"""Deformable attention in plain PyTorch, on any device and in any floating type."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def deform_attn(value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> Tensor:
    """Sample ``value`` at the locations and add the samples up by their weights.

    Letters: N batch, S = sum of all levels' h*w, M heads, D channels of a head, L levels, P points, Q queries.

    value (N, S, M, D); spatial_shapes (L, 2) integers (h, w); sampling_locations (N, Q, M, L, P, 2) as (x, y)
    with 0..1 across the map, sampled bilinearly at ``location * size - 0.5`` and zero outside;
    attention_weights (N, Q, M, L, P). Returns (N, Q, M * D).

    A sample is the sum of four rows of ``value`` by the corners' shares, so the whole is one sum of weighted rows
    for each query and head: an embedding bag.
    """
    N, S, M, D = value.shape
    Q = sampling_locations.shape[1]
    positions, shares = _corners(sampling_locations, spatial_shapes.to(value.device))
    shares = shares * attention_weights[..., None]  # (N, Q, M, L, P, 4)
    head = torch.arange(M, device=value.device).view(M, 1, 1, 1)
    sample = torch.arange(N, device=value.device).view(N, 1, 1, 1, 1, 1)
    rows = (sample * S + positions) * M + head
    bags = (N * Q * M, positions.shape[3] * positions.shape[4] * 4)
    weights = shares.reshape(bags).to(value.dtype)
    return F.embedding_bag(rows.view(bags), value.reshape(-1, D), per_sample_weights=weights, mode="sum").view(
        N, Q, M * D
    )


def _corners(locations: Tensor, spatial_shapes: Tensor) -> tuple[Tensor, Tensor]:
    """Positions 0..S-1 of the four pixels around each location and their shares: (N, Q, M, L, P, 4) each."""
    heights, widths = spatial_shapes.unbind(-1)  # (L,) each
    starts = (heights * widths).cumsum(0) - heights * widths
    x, x_share = _neighbours(locations[..., 0], widths[:, None])  # (N, Q, M, L, P, 2) each
    y, y_share = _neighbours(locations[..., 1], heights[:, None])
    positions = starts[:, None, None, None] + y[..., :, None] * widths[:, None, None, None] + x[..., None, :]
    return positions.flatten(-2), (y_share[..., :, None] * x_share[..., None, :]).flatten(-2)


def _neighbours(location: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The two pixels beside each location along one axis, moved inside, and their shares, 0 for those moved."""
    pixel = location * size - 0.5
    floor = pixel.detach().floor()
    share = pixel - floor
    # Far outside is as good as just outside, and fits an integer.
    first = floor.clamp(min=-2).minimum(size.to(floor.dtype)).long()
    both = torch.stack([first, first + 1], dim=-1)
    inside = (both >= 0) & (both < size[..., None])
    return both.clamp(min=0).minimum(size[..., None] - 1), torch.stack([1 - share, share], dim=-1) * inside
