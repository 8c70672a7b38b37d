"""The plan of a comparison as text: every run with its number, its hours and what it needs, and how long all take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from commands.experiments.estimates import MEASURED_ON, hours_of, rates_of
from commands.experiments.records import Record
from commands.experiments.runs import Run
from commands.experiments.scheduling import Simulation, run_all


def plan_text(
    runs: Sequence[Run], finished: Mapping[str, Record | None], family: str, places: int, *, on_gpus: bool
) -> str:
    """A line for each run, by stage, and the totals for ``places`` runs at once."""
    rates, source = rates_of(family, runs, finished)
    hours = {run.name: hours_of(run.work, rates) for run in runs}
    left = {run.name: hours[run.name] or 0.0 for run in runs if run.name not in finished}
    simulation = Simulation(places, left)
    run_all(runs, finished, simulation)
    where = f"on {places} GPUs" if on_gpus else f"with {places} at once"
    note = "; a GPU takes fewer, not measured yet" if on_gpus and MEASURED_ON in source else ""
    lines = [
        *_lines(runs, {name: "done" if name in finished else _shown(time) for name, time in hours.items()}),
        f"{len(runs)} runs, {len(runs) - len(left)} done; {len(left)} to do: {sum(left.values()):,.1f} hours of "
        f"computing, {simulation.now:,.1f} hours {where}; the longest chain takes {_longest_chain(runs, left):,.1f}",
        f"hours: {source}{note}",
    ]
    return "\n".join(lines)


def _lines(runs: Sequence[Run], times: Mapping[str, str]) -> Iterator[str]:
    width = max(len(run.name) for run in runs)
    yield f"{'run':>5}  {'':<{width}}  {'hours':>8}  needs"
    for stage, members in groupby(enumerate(runs, start=1), key=lambda numbered: numbered[1].stage):
        numbered = list(members)
        yield f"stage {stage}: runs {numbered[0][0]} to {numbered[-1][0]}"
        for number, run in numbered:
            yield f"{number:>5}  {run.name:<{width}}  {times[run.name]:>8}  {', '.join(run.needs)}".rstrip()


def _shown(hours: float | None) -> str:
    return "?" if hours is None else f"{hours:.2f}"


def _longest_chain(runs: Sequence[Run], hours: Mapping[str, float]) -> float:
    """Hours until the last run ends if there is room for all; ``runs`` are in the order of their stages."""
    ends: dict[str, float] = {}
    for run in runs:
        ends[run.name] = max((ends[need] for need in run.needs), default=0.0) + hours.get(run.name, 0.0)
    return max(ends.values(), default=0.0)
