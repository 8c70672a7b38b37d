"""Random generators that depend on their purpose only, not on what ran before.

Torch is imported with its first generator: the preparation of data needs none.
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_number(*key: object) -> int:
    """A 63-bit seed from any printable key, the same on every machine: ``seed_number(123, "epoch", 4)``."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") >> 1


def python_random(*key: object) -> random.Random:
    """A ``random.Random`` of its own for ``key``."""
    return random.Random(seed_number(*key))


def numpy_random(*key: object) -> np.random.Generator:
    """A numpy generator of its own for ``key``."""
    return np.random.default_rng(seed_number(*key))


def torch_random(*key: object) -> torch.Generator:
    """A CPU ``torch.Generator`` of its own for ``key``."""
    import torch

    return torch.Generator().manual_seed(seed_number(*key))


def seed_everything(*key: object) -> None:
    """Seed the global generators, for libraries that draw from them (weight initialisation, dropout)."""
    import torch

    number = seed_number(*key)
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)
