"""Several processes for one command: starting them with torchrun, and what each knows before it imports torch."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from util.errors import UserError

_ADVICE = "torchrun sets it: start the command with torchrun, or unset WORLD_SIZE"
_DIGITS = 10  # more than any of its numbers has
_PROCESSES = "NPROC"  # the variable that asks for several
_LAUNCHER = Path(__file__).with_name("launch.py")


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
    if is_one_of_several():
        raise UserError(f"{command}: works in one process, not {os.environ['WORLD_SIZE']}; start it without torchrun")


def start_processes(gpus: Sequence[int]) -> None:
    """Run this command again, as it was started, in as many processes of this machine as ``NPROC`` or ``gpus`` ask for.

    Return where that is one, on one machine, or where torchrun has started them already. Else end when they do, with
    the exit code of the first that failed, which has said why: a line is added only for one that was killed. INT and
    TERM are passed on to all, and so is USR1. Several machines are described as for torchrun, by ``PET_NNODES`` and
    other variables of its own.

    Raises ``UserError`` for a number that is none, or is not that of the ``gpus`` where these are several.
    """
    count = _wanted_processes(gpus)
    if "WORLD_SIZE" not in os.environ and (count > 1 or os.environ.get("PET_NNODES", "1") != "1"):
        sys.exit(_torchrun(count, gpus))


def is_one_of_several() -> bool:
    """Whether torchrun has started this process with others."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


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


def _wanted_processes(gpus: Sequence[int]) -> int:
    text = os.environ.get(_PROCESSES)
    if text is None:
        return max(1, len(gpus))
    if not (text.isdecimal() and text.isascii() and len(text) < _DIGITS and int(text) >= 1):
        raise UserError(f"{_PROCESSES}={text}: a number of processes from 1 expected; unset it for one")
    if len(gpus) > 1 and int(text) != len(gpus):
        raise UserError(
            f"{_PROCESSES}={text}: TRAIN.train_gpu={[*gpus]} asks for {len(gpus)} processes; unset {_PROCESSES}"
        )
    return int(text)


def _torchrun(count: int, gpus: Sequence[int]) -> int:
    """Run this command in ``count`` processes; returns its exit code. Raises what ``require_gpus`` raises."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    from util.device import require_gpus

    require_gpus(gpus)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // count)))
    logging.disable(logging.ERROR)  # the processes say what is to be said; torchrun would add twenty lines
    signal.signal(signal.SIGUSR1, _pass_on)
    with tempfile.TemporaryDirectory() as logs:  # torchrun leaves empty folders in it
        try:
            run(parse_args(["--nproc_per_node", str(count), "--log_dir", logs, str(_LAUNCHER), *sys.argv]))
        except ChildFailedError as error:
            number, failure = error.get_first_failure()
            return failure.exitcode if failure.exitcode > 0 else _report_killed(number, count, -failure.exitcode)
        except SignalException as interruption:
            return 128 + interruption.sigval
    return 0


def _pass_on(number: int, frame: object) -> None:
    """Send a signal to the processes. torchrun passes on only those that end it."""
    for child in psutil.Process().children():
        child.send_signal(number)


def _report_killed(process: int, count: int, number: int) -> int:
    """Say which process was killed; returns the exit code."""
    name = signal.Signals(number).name
    print(
        f"error: process {process} of {count} was killed by {name}, as by the system where memory runs out; "
        "the same command continues from what is on the disk",
        file=sys.stderr,
    )
    return 128 + number
