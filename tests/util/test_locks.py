"""util.locks: a second process is refused, and one that is killed leaves no lock."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from util.errors import UserError
from util.files import PROJECT
from util.locks import only_process_in

# Holds the lock, with a child of its own as a loader's worker is one, until it is killed.
_HOLDER = """
import os, sys, time
from pathlib import Path
from util.locks import only_process_in
with only_process_in(Path(sys.argv[1])):
    worker = os.fork()
    if worker:
        print(worker, flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-c", _HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as holder:
        assert holder.stdout is not None
        worker = int(holder.stdout.readline())
        try:
            message = f"{folder}: process {holder.pid} is working here; wait for it or choose another folder"
            with pytest.raises(UserError, match=re.escape(message)), only_process_in(folder):
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
        with only_process_in(folder):  # though the worker is still alive
            os.kill(worker, signal.SIGKILL)
        with only_process_in(folder):
            pass


def test_where_no_folder_can_be_made() -> None:
    with (
        pytest.raises(UserError, match=r"^/proc/none: no folder can be made here"),
        only_process_in(Path("/proc/none")),
    ):
        pass
