"""The learning rate of the SGD part, which depends on the iteration only (docs/method.md, section 9)."""

from __future__ import annotations


def sgd_lr(
    base_lr: float, iteration: int, total: int, warmup: int, *, lr_scale: float = 15.0, power: float = 0.9
) -> float:
    """The rate applied at ``iteration`` (1 .. ``total``).

    Rises linearly for the first ``warmup`` iterations (0: none), then falls polynomially to 0 at ``total``; all of
    it times ``lr_scale``.
    """
    if iteration < warmup:
        return lr_scale * base_lr * (0.001 + 0.999 * iteration / warmup)
    return lr_scale * base_lr * (1 - iteration / total) ** power
