"""Start a command of the project, as its scripts do: ``python util/launch.py FILE.py`` or ``-m MODULE``, and arguments.

While a command imports its modules, Ctrl-C and TERM end it in one line; after that ``util.errors.run_command`` does.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import signal
import sys
from pathlib import Path

PROJECT_FOLDER = Path(__file__).resolve().parents[1]


def launch(command: list[str]) -> None:
    """Run ``FILE.py`` or ``-m MODULE`` as the main program, with the arguments that follow it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # jobs in the background are deaf to Ctrl-C
            signal.signal(number, end_before_work)
    # Before Python 3.11 the folder of this file is searched first, and its logging.py would hide Python's.
    sys.path[:] = [folder for folder in sys.path if Path(folder) != PROJECT_FOLDER / "util"]
    if importlib.util.find_spec("torch") is None:
        print(f"error: {sys.executable} has no torch: run bash {PROJECT_FOLDER}/install.sh", file=sys.stderr)
        sys.exit(2)
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")


def end_before_work(number: int, frame: object) -> None:
    """What a signal does while modules are imported."""
    os.write(2, b"interrupted: nothing was begun; the same command starts it\n")
    os._exit(128 + number)


if __name__ == "__main__":
    launch(sys.argv[1:])
