"""Deformable attention (SPEC section 7): the public function and who computes it.

The plain PyTorch formulation in ``reference.py`` is the meaning of the operation.
"""

from __future__ import annotations

from model.ops.reference import deform_attn

__all__ = ["backend", "deform_attn"]


def backend() -> str:
    """What ``deform_attn`` runs on: ``"reference"`` is plain PyTorch."""
    return "reference"
