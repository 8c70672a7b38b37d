"""Runs as processes of their own, each with its output in a file; an interruption ends all of them in order."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from commands.experiments.records import write_record
from commands.experiments.runs import Run
from engine.interruption import NotedSignals, noted_signals
from util.errors import UserError, importing
from util.files import PROJECT, make_folder
from util.logging import logger
from util.processes import available_cores

OUTPUT = "output.txt"
_SECONDS_BETWEEN_LOOKS = 0.1
_LONGEST_LINE = 300


class Processes:
    """Workers that start commands, one at a time in each place, within ``ended_together``.

    Each has the environment of its place, and its share of the cores. ``numbers`` are those of the runs in the plan,
    for the log.
    """

    def __init__(self, places: Sequence[Mapping[str, str]], numbers: Mapping[str, int]) -> None:
        self.places = len(places)
        self._environments = [_environment(place, len(places)) for place in places]
        self._numbers = numbers
        self._running: dict[int, _Process] = {}
        self._signals = NotedSignals()

    def start(self, run: Run, place: int) -> None:
        make_folder(run.folder)
        whole = not run.product.exists()
        with (run.folder / OUTPUT).open("wb") as output:
            # A session of its own: Ctrl-C on the terminal is for this process, which passes it on.
            process = subprocess.Popen(
                run.command, env=self._environments[place], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._running[place] = _Process(run, process, time.monotonic(), whole)
        logger.info("%s: started, output in %s", self._title(run), run.folder / OUTPUT)

    def wait(self) -> tuple[Run, int, bool]:
        while True:
            for place, running in self._running.items():
                if running.process.poll() is not None:
                    del self._running[place]
                    return running.run, place, self._report(running)
            self._signals.heed()
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    @contextmanager
    def ended_together(self) -> Iterator[None]:
        """However the block ends, end the processes that still run by TERM, which makes a training save; wait for them.

        Ctrl-C and TERM are heeded while the block waits for a run; the ``KeyboardInterrupt`` then says what was ended.
        A second Ctrl-C kills the processes.
        """
        with noted_signals() as self._signals:
            try:
                yield
            except KeyboardInterrupt as interruption:
                runs = f"{len(self._running)} runs in progress were ended"
                raise type(interruption)(f"{runs}; the same command continues them") from None
            finally:
                self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        try:
            for running in self._running.values():
                running.process.send_signal(number)
            for running in self._running.values():
                running.process.wait()
        except KeyboardInterrupt:
            self._end(signal.SIGKILL)

    def _report(self, running: _Process) -> bool:
        """Log how a run ended, and record it where it ended well."""
        run, seconds = running.run, time.monotonic() - running.started
        if running.process.returncode == 0 and run.product.is_file():
            write_record(run, seconds, whole=running.whole)
            logger.info("%s: done in %.1f minutes", self._title(run), seconds / 60)
            return True
        code = running.process.returncode
        logger.error("%s: FAILED with exit code %d: %s", self._title(run), code, last_line(run))
        return False

    def _title(self, run: Run) -> str:
        return f"run {self._numbers[run.name]}, {run.name}"


@dataclass
class _Process:
    """A run in progress; ``whole`` where nothing of its product was there before."""

    run: Run
    process: subprocess.Popen[bytes]
    started: float
    whole: bool


def last_line(run: Run) -> str:
    """What a run said last."""
    lines = (run.folder / OUTPUT).read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip()[-_LONGEST_LINE:] for line in reversed(lines) if line.strip()), "it said nothing")


def gpu_places(gpus: Sequence[int]) -> list[dict[str, str]]:
    """A place for each of the GPUs, by their numbers among those that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(max(gpus) + 1)]
    if max(gpus) >= len(names):
        raise UserError(f"--gpus {max(gpus)}: CUDA_VISIBLE_DEVICES={visible} has {len(names)}, counted from 0")
    return [{"CUDA_VISIBLE_DEVICES": names[number]} for number in gpus]


def check_gpus(gpus: Sequence[int]) -> None:
    """Raise ``UserError`` for a GPU that CUDA cannot use: a run would silently take the CPU."""
    with importing():
        from util.device import usable_gpus
    count = usable_gpus()
    if max(gpus) >= count:
        advice = "counted from 0" if count else "use --jobs"
        raise UserError(f"--gpus {max(gpus)}: this machine has {count} GPUs that CUDA can use; {advice}")


def _environment(place: Mapping[str, str], places: int) -> dict[str, str]:
    """Of a run: one process with its share of the cores; ``NPROC`` is for a single training in several processes."""
    environment = {key: value for key, value in os.environ.items() if key != "NPROC"}
    folders = os.pathsep.join(filter(None, [str(PROJECT), environment.get("PYTHONPATH")]))
    threads = environment.get("OMP_NUM_THREADS") or str(max(1, available_cores() // places))
    return {**environment, "PYTHONPATH": folders, "OMP_NUM_THREADS": threads, **place}
