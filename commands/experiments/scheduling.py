"""In which order runs are started: the first that has what it needs, wherever there is room."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Protocol

from commands.experiments.runs import Run


class Workers(Protocol):
    """What runs are given to; as many at once as it has ``places``, numbered from 0."""

    places: int

    def start(self, run: Run, place: int) -> None:
        """Begin ``run`` in a free place."""

    def wait(self) -> tuple[Run, int, bool]:
        """The next run that ends, the place that it leaves, and whether it ended well."""


@dataclass
class Outcome:
    """The names of the runs that ended well, of those that failed, and of those that lacked what they need."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def run_all(runs: Sequence[Run], finished: Collection[str], workers: Workers) -> Outcome:
    """Give all ``runs`` but those that are ``finished`` to ``workers``, in their order as far as their needs allow.

    A run that fails leaves out those that need it, and no others.
    """
    outcome = Outcome()
    waiting = [run for run in runs if run.name not in finished]
    available, free, running = set(finished), list(range(workers.places)), 0
    while waiting or running:
        lost = {*outcome.failed, *outcome.left_out}
        outcome.left_out += [run.name for run in waiting if lost.intersection(run.needs)]
        waiting = [run for run in waiting if run.name not in outcome.left_out]
        ready = [run for run in waiting if available.issuperset(run.needs)][: len(free)]
        for run in ready:
            waiting.remove(run)
            workers.start(run, free.pop(0))
        running += len(ready)
        if running:
            run, place, well = workers.wait()
            (outcome.done if well else outcome.failed).append(run.name)
            available.update([run.name] if well else [])
            free.append(place)
            running -= 1
    return outcome


class Simulation:
    """Workers that only count the hours; ``now`` is the time of the last run that ended."""

    def __init__(self, places: int, hours: dict[str, float]) -> None:
        self.places = places
        self.now = 0.0
        self._hours = hours
        self._ends: list[tuple[float, int, Run]] = []

    def start(self, run: Run, place: int) -> None:
        heappush(self._ends, (self.now + self._hours[run.name], place, run))

    def wait(self) -> tuple[Run, int, bool]:
        self.now, place, run = heappop(self._ends)
        return run, place, True
