"""Which pixels belong together: k-means of the features' hash codes (SPEC section 6)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from model.clusterutils import hamming_kmeans, lsh_hash
from model.precision import at_least_float32
from util.seed import torch_random

BITS = 32
ITERATIONS = 10


class HammingClustering(nn.Module):
    """Clusters one set of features after the other.

    Hyperplanes and first centroids come from the module's own generator: in training a new draw each call, counted
    in a buffer so that a resumed run draws what it would have drawn; in evaluation the same draw always, so that
    a prediction is a function of its inputs.
    """

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.draws: Tensor
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """features (N, C), N >= k -> assignment (N,) int64 in 0..k-1, counts (k,) int64."""
        N, C = features.shape
        generator = torch_random("clustering", self.seed, int(self.draws) if self.training else "evaluation")
        planes = torch.randn(BITS, C + 1, generator=generator)
        first = torch.randperm(N, generator=generator)[:k]
        if self.training:
            self.draws += 1
        codes = _hash(features, planes)
        assignment, counts, _ = _kmeans(codes, codes[first.to(codes.device)], ITERATIONS)
        return assignment, counts


class PublishedHammingClustering(nn.Module):
    """As the published code does it: random in evaluation too, and not the same on every device.

    Hyperplanes come from torch's global generator and first centroids from numpy's, anew at each call. An even split
    of a bit gives 0 on a CPU and a random bit on a GPU, where one more update is made. A cluster without members gets
    a random code; unlike there, a seed repeats it.
    """

    @torch.no_grad()
    def forward(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """features (N, C), N >= k -> assignment (N,) int64 in 0..k-1, counts (k,) int64."""
        N, C = features.shape
        codes = _hash(features, torch.randn(BITS, C + 1))
        first = torch.from_numpy(np.random.choice(N, k, replace=False))
        centroids = codes[first.to(codes.device)]
        for _ in range(ITERATIONS if codes.is_cuda else ITERATIONS - 1):
            centroids = self._update(codes, centroids)
        assignment, counts, _ = _kmeans(codes, centroids, 0)
        return assignment, counts

    def _update(self, codes: Tensor, centroids: Tensor) -> Tensor:
        """One assignment and the bitwise majorities of its clusters: codes (N,), centroids (k,) -> (k,)."""
        assignment, counts, _ = _kmeans(codes, centroids, 0)
        positions = torch.arange(BITS, device=codes.device)
        bits = (codes[:, None] >> positions) & 1
        ones = torch.zeros(len(centroids), BITS, dtype=torch.int64, device=codes.device)
        twice = 2 * ones.index_add_(0, assignment, bits)
        random_bits = torch.randint(0, 2, twice.shape).to(codes.device)
        on_tie = random_bits if codes.is_cuda else torch.zeros_like(random_bits)
        majority = torch.where(twice == counts[:, None], on_tie, (twice > counts[:, None]).long())
        majority = torch.where(counts[:, None] == 0, random_bits, majority)
        return (majority << positions).sum(dim=1)


@at_least_float32
def _hash(features: Tensor, planes: Tensor) -> Tensor:
    return lsh_hash(features, planes.to(features))


def _kmeans(codes: Tensor, centroids: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    """``hamming_kmeans`` of one set: codes (N,), centroids (k,) -> assignment (N,) int64, counts (k,), centroids."""
    lengths, ks = (torch.tensor([len(x)], device=codes.device) for x in (codes, centroids))
    results = hamming_kmeans(codes[None], lengths, centroids[None], ks, iterations, BITS)
    assignment, counts, centroids = (result[0].long() for result in results)
    return assignment, counts, centroids
