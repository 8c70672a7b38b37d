"""The prior: how similar each query position is to the support object (docs/method.md, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from model.layers.pointwise import linear
from model.layers.precision import at_least_float32

# Support positions compared at a time: bounds the memory of the cosines.
_CHUNK = 512


@torch.no_grad()
@at_least_float32
def prior(query: Tensor, support: Tensor, share: Tensor) -> Tensor:
    """Highest cosine of every query position to the masked support features, scaled to 0..1 for each shot.

    query (B, C, h, w); support (B, K, C, h', w'); share (B, K, h', w') of object, 0..1. Returns (B, 1, h, w), the mean
    over the K shots, without gradient. Padded positions take part in the scaling.

    From Tian et al., "Prior Guided Feature Enrichment Network for Few-Shot Segmentation" (PFENet), TPAMI 2020.
    """
    B, _, h, w = query.shape
    compare = _best_cosines if torch.onnx.is_in_onnx_export() else best_cosine
    similarity = compare(query, support, share)
    low, high = similarity.amin(dim=-1, keepdim=True), similarity.amax(dim=-1, keepdim=True)
    scaled = (similarity - low) / (high - low + 1e-7)
    return scaled.mean(dim=1).view(B, 1, h, w)


@torch.library.custom_op("unsupfss::best_cosine", mutates_args=())
def best_cosine(query: Tensor, support: Tensor, share: Tensor) -> Tensor:
    """Maximum over support positions of <a, b> / (|a||b| + 1e-7), a a support feature times its share: (B, K, h * w).

    A library operator, because the positions that it reads depend on the mask, which would break a compiled network.
    """
    return _best_cosines(query, support, share)


@best_cosine.register_fake
def _(query: Tensor, support: Tensor, share: Tensor) -> Tensor:
    return query.new_empty(*support.shape[:2], query.shape[2] * query.shape[3])


def _best_cosines(query: Tensor, support: Tensor, share: Tensor) -> Tensor:
    """``best_cosine`` in operators of PyTorch."""
    B, K = support.shape[:2]
    queries, supports, shares = query.flatten(2), support.flatten(3), share.flatten(2)
    best = [_best_cosine(queries[b].T, supports[b, k].T, shares[b, k]) for b in range(B) for k in range(K)]
    return torch.stack(best).view(B, K, -1)


def _best_cosine(query: Tensor, support: Tensor, share: Tensor) -> Tensor:
    """query (Q, C), support (S, C), share (S,) -> (Q,)"""
    lowest = float("-inf")
    if query.device.type == "cpu" and not torch.onnx.is_in_onnx_export():
        # Positions outside the object have cosine 0 to everything and are skipped. On a GPU, waiting for their number
        # would cost more than it saves; in ONNX it would make a size that is not fixed.
        inside = share > 0
        lowest = lowest if inside.all() else 0.0
        support, share = support[inside], share[inside]
    query_norm = query.norm(dim=1)
    best = torch.full_like(query_norm, lowest)
    for start in range(0, len(share), _CHUNK):
        part = slice(start, start + _CHUNK)
        rows = support[part] * share[part, None]
        norms = query_norm[:, None] * rows.norm(dim=1)
        best = torch.maximum(best, (linear(query[None], rows)[0] / (norms + 1e-7)).amax(dim=1))
    return best
