"""Random generators that depend on their purpose only, not on what ran before.

Torch is imported with its first generator: the preparation of data needs none.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from util.errors import UserError

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


def generator_states(device: torch.device) -> dict[str, Any]:
    """The states of the global generators, and of that of ``device``: plain values and tensors."""
    import torch

    numpy_state: Any = np.random.get_state(legacy=False)
    key = torch.from_numpy(numpy_state["state"]["key"].astype(np.int64))
    states = {
        "python": random.getstate(),
        "numpy": {**numpy_state, "state": {**numpy_state["state"], "key": key}},
        "torch": torch.get_rng_state(),
    }
    return {**states, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def restore_generators(states: Mapping[str, Any], device: torch.device, source: Path) -> None:
    """Restore what ``generator_states`` returned; a GPU that had none keeps its state.

    Raises ``UserError``, which names ``source``, for anything else.
    """
    import torch

    try:
        random.setstate(states["python"])
        key = states["numpy"]["state"]["key"].numpy()
        np.random.set_state({**states["numpy"], "state": {**states["numpy"]["state"], "key": key}})
        torch.set_rng_state(states["torch"])
        if device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], device)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError):
        raise UserError(
            f"{source}: cannot be continued, its states of random generators are damaged; "
            f"start a run from its weights with TRAIN.weight={source}"
        ) from None
