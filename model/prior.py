"""The prior: how much each query position looks like some position of the support object (SPEC section 3)."""

from __future__ import annotations

import torch
from torch import Tensor


def prior(query: Tensor, support: Tensor, support_mask: Tensor) -> Tensor:
    """Highest cosine of every query position to the masked support features, scaled to 0..1 for each image.

    query (B, C, h, w); support (B, K, C, h, w); support_mask (B, K, h, w) in 0..1, the share of object.
    Returns (B, 1, h, w), the mean over the K shots. Padded positions take part in the scaling.
    """
    B, K, _, h, w = support.shape
    maps = [_best_cosine(query, support[:, shot] * support_mask[:, shot, None]) for shot in range(K)]
    similarity = torch.stack(maps, dim=1)  # (B, K, h * w)
    low, high = similarity.amin(dim=-1, keepdim=True), similarity.amax(dim=-1, keepdim=True)
    scaled = (similarity - low) / (high - low + 1e-7)
    return scaled.mean(dim=1).view(B, 1, h, w)


def _best_cosine(query: Tensor, support: Tensor) -> Tensor:
    """(B, C, h, w) twice -> (B, h * w): maximum over support positions of <a, b> / (|a||b| + 1e-7)."""
    query, support = query.flatten(2), support.flatten(2)
    products = support.transpose(1, 2) @ query  # (B, support position, query position)
    norms = support.norm(dim=1)[:, :, None] * query.norm(dim=1)[:, None, :]
    return (products / (norms + 1e-7)).amax(dim=1)
