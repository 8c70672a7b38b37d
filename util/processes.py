"""What a process knows of its machine and of torchrun before torch is there, whose import takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from util.errors import UserError

_ADVICE = "torchrun sets it: start the command with torchrun, or unset WORLD_SIZE"
_DIGITS = 10  # more than any of its numbers has


def available_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started and leave them at the end; without torchrun do nothing.

    Raises ``UserError`` for an environment that torchrun would not make.
    """
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    _check_environment()
    from util.distributed import joined_processes  # not above: it needs torch

    with joined_processes():
        yield


def require_one_process(command: str) -> None:
    """Raise ``UserError`` where torchrun started several processes: each would do and write everything."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise UserError(f"{command}: works in one process for now, not {processes}; start it without torchrun")


def torchrun_number(name: str, *, least: int, default: int | None = None) -> int:
    """A variable of the environment; a ``UserError`` where it is no such number or, without ``default``, not there."""
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    if text is None:
        raise UserError(f"{name} is not set, but WORLD_SIZE is; {_ADVICE}")
    if not (text.isdecimal() and text.isascii() and len(text) < _DIGITS and int(text) >= least):
        raise UserError(f"{name}={text}: a number from {least} expected; {_ADVICE}")
    return int(text)


def _check_environment() -> None:
    torchrun_number("MASTER_PORT", least=0)
    processes, own_rank = torchrun_number("WORLD_SIZE", least=1), torchrun_number("RANK", least=0)
    if own_rank >= processes:
        raise UserError(f"RANK={own_rank}: a number below WORLD_SIZE={processes} expected; {_ADVICE}")
    if "MASTER_ADDR" not in os.environ:
        raise UserError(f"MASTER_ADDR is not set, but WORLD_SIZE is; {_ADVICE}")
