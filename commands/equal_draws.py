"""Whether several processes draw what one would."""

from __future__ import annotations

from util.config import Config
from util.distributed import world_size
from util.errors import UserError


def require_equal_draws(config: Config) -> None:
    """Raise ``UserError`` where processes would not draw the same random numbers as one.

    The published clustering draws for one episode after the other.
    """
    divided = world_size() * config.TRAIN.accumulate
    if config.published and divided > 1:
        raise UserError(
            f"TRAIN.compat=published: draws for one episode after the other, in one process, {world_size()} are here, "
            f"and with TRAIN.accumulate=1, {config.TRAIN.accumulate} is given; unset NPROC and TRAIN.accumulate"
        )
