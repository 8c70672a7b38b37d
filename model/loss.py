"""The training loss (docs/method.md, section 8)."""

from __future__ import annotations

import torch
from torch import Tensor


def dice_loss(logits: Tensor, target: Tensor, ignore_index: int | None = 255) -> Tensor:
    """Dice loss on sigmoids (Milletari et al., V-Net, 3DV 2016): a term for background and one for the object; 0..2.

    logits (B, 2, H, W); target (B, H, W) with 0 background, 1 object, 255 void. Pixels equal to
    ``ignore_index`` are left out of every sum; None keeps them in the denominator, as the published code does.
    Returns a scalar, the mean over the batch.
    """
    scores = logits.float().sigmoid()
    truth = torch.stack([target == 0, target == 1], dim=1).to(scores.dtype)
    if ignore_index is not None:
        scores = scores * (target != ignore_index)[:, None]
    overlap = (scores * truth).sum(dim=(2, 3))
    mass = (scores.square() + truth.square()).sum(dim=(2, 3)).clamp(min=1e-8)
    return (1 - 2 * overlap / mass).sum(dim=1).mean()
