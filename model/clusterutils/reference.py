"""LSH hashing and Hamming k-means in plain PyTorch, on any device, bit for bit the same everywhere."""

from __future__ import annotations

import torch
from torch import Tensor


def lsh_hash(x: Tensor, planes: Tensor) -> Tensor:
    """``model.clusterutils.lsh_hash`` without its checks."""
    with torch.autocast(x.device.type, enabled=False):  # which would compare in another type than the thresholds have
        sides = x @ planes[:, :-1].T > planes[:, -1]
    powers = 2 ** torch.arange(planes.shape[0], device=x.device)
    return (sides * powers).sum(dim=1)


def hamming_kmeans(
    codes: Tensor, lengths: Tensor, centroids: Tensor, ks: Tensor, iterations: int, bits: int
) -> tuple[Tensor, Tensor, Tensor]:
    """``model.clusterutils.hamming_kmeans`` without its checks."""
    L, K = codes.shape[1], centroids.shape[1]
    positions = torch.arange(bits, device=codes.device)
    centroids = centroids & (2**bits - 1)
    members = _unpack(codes, positions)  # (G, L, bits)
    valid = torch.arange(L, device=codes.device) < lengths[:, None]
    unused = torch.arange(K, device=codes.device) >= ks[:, None]
    for _ in range(iterations):
        one_hot = _assign(members, valid, _unpack(centroids, positions), unused)
        counts = one_hot.sum(dim=1)  # (G, K)
        ones = one_hot.transpose(1, 2) @ members  # (G, K, bits)
        majority = ((2 * ones > counts[..., None]) * 2**positions).sum(dim=-1)
        centroids = torch.where(counts > 0, majority, centroids)
    one_hot = _assign(members, valid, _unpack(centroids, positions), unused)
    assignment = torch.where(valid, one_hot.argmax(dim=-1), -1)
    return assignment.int(), one_hot.sum(dim=1).int(), centroids


def _unpack(codes: Tensor, positions: Tensor) -> Tensor:
    """Bits of the codes as float32 0/1 on a new last axis."""
    return ((codes[..., None] >> positions) & 1).float()


def _assign(members: Tensor, valid: Tensor, centroids: Tensor, unused: Tensor) -> Tensor:
    """One-hot assignment (G, L, K) float32; rows past the lengths are zero.

    Distances are small integers, exact in float32; the index is added below the unit so that a tie has one
    answer on every device.
    """
    K = centroids.shape[1]
    distance = members.sum(-1)[..., None] + centroids.sum(-1)[:, None] - 2 * members @ centroids.transpose(1, 2)
    ranked = distance * K + torch.arange(K, device=members.device)
    ranked = ranked.masked_fill(unused[:, None], float("inf"))
    nearest = torch.nn.functional.one_hot(ranked.argmin(dim=-1), K)
    return nearest.float() * valid[..., None]
