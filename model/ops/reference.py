"""Deformable attention in plain PyTorch, on any device and in any floating type."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def deform_attn(value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> Tensor:
    """Sample ``value`` at the locations and add the samples up by their weights.

    Letters: N batch, S = sum of all levels' h*w, M heads, D channels of a head, L levels, P points, Q queries.

    value (N, S, M, D); spatial_shapes (L, 2) integers (h, w); sampling_locations (N, Q, M, L, P, 2) as (x, y)
    with 0..1 across the map, sampled bilinearly at ``location * size - 0.5`` and zero outside;
    attention_weights (N, Q, M, L, P). Returns (N, Q, M * D).
    """
    N, _, M, D = value.shape
    Q, P = sampling_locations.shape[1], sampling_locations.shape[4]
    sizes = [(int(h), int(w)) for h, w in spatial_shapes.tolist()]
    levels = value.split([h * w for h, w in sizes], dim=1)
    grids = 2 * sampling_locations - 1
    output = value.new_zeros(N * M, D, Q)
    for level, (h, w) in enumerate(sizes):
        image = levels[level].permute(0, 2, 3, 1).reshape(N * M, D, h, w)
        grid = grids[:, :, :, level].transpose(1, 2).reshape(N * M, Q, P, 2)
        samples = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        weights = attention_weights[:, :, :, level].transpose(1, 2).reshape(N * M, 1, Q, P)
        output = output + (samples * weights).sum(dim=-1)
    return output.view(N, M * D, Q).transpose(1, 2)
