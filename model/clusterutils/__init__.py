"""Clustering by locality-sensitive hashing and k-means in Hamming space (SPEC section 6).

The plain PyTorch formulation in ``reference.py`` is the meaning of the operations.
"""

from __future__ import annotations

from model.clusterutils.reference import hamming_kmeans, lsh_hash

__all__ = ["backend", "hamming_kmeans", "lsh_hash"]


def backend() -> str:
    """What the two functions run on: ``"reference"`` is plain PyTorch."""
    return "reference"
