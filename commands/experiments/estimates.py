"""How many hours runs take: from the runs that are finished, else from what was measured elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from commands.experiments.records import Record
from commands.experiments.runs import Run
from commands.experiments.work import Work


class Rates(NamedTuple):
    """Seconds for an episode of training, for one of a test with one shot, for a pseudo mask; None: not measured."""

    training: float | None
    tests: float | None
    masks: float | None


# Of families, on two cores of an AMD EPYC: docs/speed.md and docs/results.md.
MEASURED = {
    "resnet50": Rates(training=9.64 / 4, tests=1.21, masks=None),
    "mobilenetv2": Rates(training=360 / 1600, tests=0.09, masks=0.043),
}
MEASURED_ON = "two CPU cores (docs/speed.md)"


def rates_of(family: str, runs: Sequence[Run], finished: Mapping[str, Record | None]) -> tuple[Rates, str]:
    """The rates for a family, and where they come from: its finished runs first."""
    known = MEASURED.get(family, Rates(None, None, None))
    timed = [(run.work, record.seconds) for run in runs if (record := finished.get(run.name)) and record.whole]
    tests = _rate((work.tests, seconds) for work, seconds in timed if not (work.training or work.masks))
    masks = _rate((work.masks, seconds) for work, seconds in timed if work.masks)
    of_test = known.tests if tests is None else tests
    training = _rate(
        (work.training, seconds - (work.tests or 0) * (of_test or 0)) for work, seconds in timed if work.training
    )
    own = Rates(training, tests, masks)
    names = [name for name, value in own._asdict().items() if value is not None]
    sources = [f"{', '.join(names)}: runs that are finished"] if names else []
    rest = [name for name, value in known._asdict().items() if value is not None and name not in names]
    sources += [f"{', '.join(rest)}: {MEASURED_ON}"] if rest else []
    unknown = [name for name in Rates._fields if name not in {*names, *rest}]
    sources += [f"{', '.join(unknown)}: not measured for {family}, counted as 0"] if unknown else []
    rates = Rates(*(theirs if ours is None else ours for ours, theirs in zip(own, known, strict=True)))
    return rates, "; ".join(sources)


def hours_of(work: Work, rates: Rates) -> float | None:
    """None where something that takes time is not known."""
    parts = [(amount, rate) for amount, rate in zip(work, rates, strict=True) if amount != 0]
    if any(amount is None or rate is None for amount, rate in parts):
        return None
    return sum(amount * rate for amount, rate in parts if amount is not None and rate is not None) / 3600


def _rate(timed: Iterable[tuple[float | None, float]]) -> float | None:
    """Seconds for one, over several runs; None for no run."""
    known = [(amount, seconds) for amount, seconds in timed if amount and seconds > 0]
    return sum(seconds for _, seconds in known) / sum(amount for amount, _ in known) if known else None
