"""Start a command of the project, as its scripts do: ``python util/launch.py FILE.py`` or ``-m MODULE``, and arguments.

While a command imports its modules, Ctrl-C and TERM end it in one line; after that ``util.errors.run_command`` does.
Once the command has said its last line, they end the process without another.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path

PROJECT_FOLDER = Path(__file__).resolve().parents[1]


def launch(command: list[str]) -> None:
    """Run ``FILE.py`` or ``-m MODULE`` as the main program, with the arguments that follow it."""
    _handle_signals(end_before_work)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # Slurm's, for a training
    # Before Python 3.11 the folder of this file is searched first, and its logging.py would hide Python's.
    sys.path[:] = [folder for folder in sys.path if Path(folder) != PROJECT_FOLDER / "util"]
    if importlib.util.find_spec("torch") is None:
        print(f"error: {sys.executable} has no torch: run bash {PROJECT_FOLDER}/install.sh", file=sys.stderr)
        sys.exit(2)
    try:
        if command[0] == "-m":
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            runpy.run_path(command[0], run_name="__main__")
    finally:
        _handle_signals(signal.SIG_DFL)


def speaks_for_all() -> bool:
    """Whether this process is the only one, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def _handle_signals(handler: Callable[[int, object], None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # jobs in the background are deaf to Ctrl-C
            signal.signal(number, handler)


def end_before_work(number: int, frame: object) -> None:
    """What a signal does while modules are imported.

    TERM ends processes of torchrun without a word: it is sent because another failed, which says why.
    """
    if speaks_for_all() and not (number == signal.SIGTERM and "TORCHELASTIC_RUN_ID" in os.environ):
        os.write(2, b"interrupted: nothing was begun; the same command starts it\n")
    os._exit(128 + number)


if __name__ == "__main__":
    launch(sys.argv[1:])
