"""Clustering by locality-sensitive hashing and k-means in Hamming space: checks and dispatch.

The method is in docs/method.md, section 6.

The plain PyTorch formulation in ``reference.py`` defines the operations and is used where nothing is built;
``make.sh`` builds ``clusterutils_cpu.cpp`` and ``clusterutils_cuda.cu``. The results have the same bits everywhere.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from model.clusterutils import reference
from util import operators

__all__ = ["backend", "hamming_kmeans", "lsh_hash"]

MOST_BITS = 63
_DEVICES = operators.load(Path(__file__).parent)


def backend() -> str:
    """Where the two functions run: ``"reference"`` is plain PyTorch, ``"cpu"`` and ``"cpu, cuda"`` are native."""
    return ", ".join(_DEVICES) or "reference"


def lsh_hash(x: Tensor, planes: Tensor) -> Tensor:
    """Hash each row to the sides of the hyperplanes it lies on.

    x (N, C) floating; planes (bits, C + 1) of the same type and device, the last column holding thresholds, at most 63
    of them. Returns codes (N,) int64 whose bit i is ``<x, planes[i, :C]> > planes[i, C]``. No gradients. Raises
    ``TypeError`` for a wrong dtype, ``ValueError`` for a wrong shape or device.
    """
    if x.dim() != 2:
        raise ValueError(f"x: expected (N, C), got {tuple(x.shape)}")
    if planes.dim() != 2 or planes.shape[1] != x.shape[1] + 1:
        raise ValueError(f"planes: expected (bits, {x.shape[1] + 1}), got {tuple(planes.shape)}")
    if planes.shape[0] > MOST_BITS:
        raise ValueError(f"planes: expected at most {MOST_BITS}, got {planes.shape[0]}")
    if not x.is_floating_point():
        raise TypeError(f"x: expected floating point numbers, got {x.dtype}")
    if planes.dtype != x.dtype:
        raise TypeError(f"planes: expected {x.dtype} like x, got {planes.dtype}")
    if planes.device != x.device:
        raise ValueError(f"planes: expected them on {x.device} like x, got {planes.device}")
    if x.device.type not in _DEVICES:
        return reference.lsh_hash(x, planes)
    codes: Tensor = torch.ops.unsupfss.lsh_hash(x.detach(), planes.detach())
    return codes


def hamming_kmeans(
    codes: Tensor, lengths: Tensor, centroids: Tensor, ks: Tensor, iterations: int, bits: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Cluster several sets of codes at once: ``iterations`` updates, then one assignment.

    codes (G, L) int64, of which set g uses the first ``lengths[g]``; centroids (G, K) int64, of which it uses the
    first ``ks[g]``, at least one; of both the low ``bits``, 1 to 63. lengths, ks (G,) int64. A code goes to the
    centroid at the smallest Hamming distance, the lowest index on a tie. A centroid becomes the bitwise majority of its
    members, 0 on a tie; one without members stays.

    Returns assignment (G, L) int32 (-1 past the lengths), counts (G, K) int32, centroids (G, K) int64. Raises
    ``TypeError`` for a wrong dtype, ``ValueError`` for a wrong shape, device or number.
    """
    if codes.dim() != 2:
        raise ValueError(f"codes: expected (G, L), got {tuple(codes.shape)}")
    if centroids.dim() != 2 or centroids.shape[0] != codes.shape[0]:
        raise ValueError(f"centroids: expected ({codes.shape[0]}, K), got {tuple(centroids.shape)}")
    for name, tensor in (("codes", codes), ("lengths", lengths), ("centroids", centroids), ("ks", ks)):
        if tensor.dtype != torch.int64:
            raise TypeError(f"{name}: expected int64, got {tensor.dtype}")
        if tensor.device != codes.device:
            raise ValueError(f"{name}: expected it on {codes.device} like codes, got {tensor.device}")
        if name in ("lengths", "ks") and tuple(tensor.shape) != codes.shape[:1]:
            raise ValueError(f"{name}: expected ({codes.shape[0]},), got {tuple(tensor.shape)}")
    if not 1 <= bits <= MOST_BITS:
        raise ValueError(f"bits: expected 1 to {MOST_BITS}, got {bits}")
    if iterations < 0:
        raise ValueError(f"iterations: expected 0 or more, got {iterations}")
    if codes.device.type not in _DEVICES:
        return reference.hamming_kmeans(codes, lengths, centroids, ks, iterations, bits)
    assignment, counts, moved = torch.ops.unsupfss.hamming_kmeans(codes, lengths, centroids, ks, iterations, bits)
    return assignment, counts, moved


def _fake_hash(x: Tensor, planes: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], dtype=torch.int64)


def _fake_kmeans(
    codes: Tensor, lengths: Tensor, centroids: Tensor, ks: Tensor, iterations: int, bits: int
) -> tuple[Tensor, Tensor, Tensor]:
    assignment = torch.empty_like(codes, dtype=torch.int32)
    return assignment, torch.empty_like(centroids, dtype=torch.int32), torch.empty_like(centroids)


if _DEVICES:
    torch.library.register_fake("unsupfss::lsh_hash", _fake_hash)
    torch.library.register_fake("unsupfss::hamming_kmeans", _fake_kmeans)
