"""Clustering of pixels: k-means of the hash codes of their features (docs/method.md, section 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from model.clusterutils import hamming_kmeans, lsh_hash
from model.layers.noise import in_last_part
from model.layers.precision import at_least_float32
from util.seed import torch_random

# (features (N, C), k) -> (assignment (N,) int64, counts (k,))
Cluster = Callable[[Tensor, int], tuple[Tensor, Tensor]]
# (features (B, N, C), members (B, S, N) bool, k for each set) -> assignment (B, S, N) int64, -1 outside the set
Assign = Callable[[Tensor, Tensor, Sequence[int]], Tensor]

BITS = 32
ITERATIONS = 10


class HammingClustering(nn.Module):
    """Clusters all sets of a batch in one call; the clusters of a set do not depend on the others.

    From Vyas et al., "Fast Transformers with Clustered Attention", NeurIPS 2020, and its implementation (Katharopoulos
    et al., ICML 2020). Hyperplanes and first centroids come from the module's own generator: in training a new draw
    per call, counted in a buffer so that a resumed run continues with the same draws; in evaluation always the same
    draw, so that a prediction depends on its inputs only.
    """

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.draws: Tensor
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def forward(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """features (N, C), N >= k -> assignment (N,) int64 in 0..k-1, counts (k,) int64."""
        everything = torch.ones(1, 1, len(features), dtype=torch.bool, device=features.device)
        assignment = self.assign(features[None], everything, (k,))[0, 0]
        return assignment, assignment.bincount(minlength=k)

    @torch.no_grad()
    def assign(self, features: Tensor, members: Tensor, ks: Sequence[int]) -> Tensor:
        """Cluster the sets of each sample: features (B, N, C), members (B, S, N) True in the set, a k for each set.

        Returns assignment (B, S, N) int64 in 0..k-1, -1 for features not in the set. A set of fewer than k features has
        fewer than k clusters.
        """
        B, S, N = members.shape
        # Hash codes, the same for all sets of a sample
        planes, scores = self._draw(N, features.shape[2])
        codes = _hash(features.flatten(0, 1), planes).view(B, 1, N).expand(B, S, N)
        # One row per set: its members move to the front, all others to a column that is cut off
        place = torch.where(members, members.cumsum(-1) - 1, N)
        rows = codes.new_zeros(B, S, N + 1).scatter(-1, place, codes)[..., :N].flatten(0, 1)
        lengths = members.sum(-1).flatten()
        # K-means from the members with the lowest scores
        first = _lowest(scores.to(codes.device), lengths, max(ks))
        limits = torch.tensor(ks, device=codes.device).repeat(B)
        assignment, _, _ = hamming_kmeans(rows, lengths, rows.gather(1, first), limits, ITERATIONS, BITS)
        # Back to where the members came from
        of_members = assignment.long().view(B, S, N).gather(-1, place.clamp(max=N - 1))
        return of_members.masked_fill(~members, -1)

    @torch.compiler.disable  # a generator cannot be part of a graph
    def _draw(self, N: int, C: int) -> tuple[Tensor, Tensor]:
        """Hyperplanes (BITS, C + 1), and a score for each place in a set: those with the lowest become first centroids.

        The scores of n places are a prefix of the scores of more places.
        """
        generator = torch_random("clustering", self.seed, int(self.draws) if self.training else "evaluation")
        if self.training and in_last_part():
            self.draws += 1
        return torch.randn(BITS, C + 1, generator=generator), torch.rand(N, generator=generator)


def _lowest(scores: Tensor, lengths: Tensor, count: int) -> Tensor:
    """Places of the ``count`` lowest scores among the first ``lengths`` (G,) of N -> (G, count), then 0."""
    order = scores.argsort()
    inside = order < lengths[:, None]
    column = torch.where(inside, inside.cumsum(-1) - 1, len(scores)).clamp(max=count)
    lowest = order.new_zeros(len(lengths), count + 1).scatter(1, column, order.expand_as(column))
    return lowest[:, :count]


class PublishedHammingClustering(nn.Module):
    """The published clustering: random in evaluation too, and different on different devices.

    Hyperplanes come from torch's global generator and first centroids from numpy's, newly drawn at each call. A tie in
    a bit gives 0 on a CPU and a random bit on a GPU, where there is one more update. A cluster without members gets a
    random code; unlike in the published code, a seed reproduces it.
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
        return _nearest(codes, centroids)

    def _update(self, codes: Tensor, centroids: Tensor) -> Tensor:
        """One assignment and the bitwise majorities of its clusters: codes (N,), centroids (k,) -> (k,)."""
        assignment, counts = _nearest(codes, centroids)
        positions = torch.arange(BITS, device=codes.device)
        bits = (codes[:, None] >> positions) & 1
        ones = torch.zeros(len(centroids), BITS, dtype=torch.int64, device=codes.device)
        twice = 2 * ones.index_add_(0, assignment, bits)
        random_bits = torch.randint(0, 2, twice.shape).to(codes.device)
        on_tie = random_bits if codes.is_cuda else torch.zeros_like(random_bits)
        majority = torch.where(twice == counts[:, None], on_tie, (twice > counts[:, None]).long())
        majority = torch.where(counts[:, None] == 0, random_bits, majority)
        return (majority << positions).sum(dim=1)


def one_by_one(cluster: Cluster) -> Assign:
    """A function for all sets of a batch that passes one set after another to ``cluster``."""

    @torch.compiler.disable  # how large a set is depends on the masks
    def assign(features: Tensor, members: Tensor, ks: Sequence[int]) -> Tensor:
        assignment = torch.full(members.shape, -1, device=features.device)
        for of_sample, pixels, sets in zip(assignment, features, members, strict=True):
            for of_set, member, k in zip(of_sample, sets, ks, strict=True):
                if member.sum() > k:
                    of_set[member] = cluster(pixels[member], k)[0]
        return assignment

    return assign


@at_least_float32
def _hash(features: Tensor, planes: Tensor) -> Tensor:
    return lsh_hash(features, planes.to(features))


def _nearest(codes: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centroids of one set: codes (N,), centroids (k,) -> assignment (N,) int64, counts (k,) int64."""
    lengths, ks = (torch.tensor([len(x)], device=codes.device) for x in (codes, centroids))
    assignment, counts, _ = hamming_kmeans(codes[None], lengths, centroids[None], ks, 0, BITS)
    return assignment[0].long(), counts[0].long()
