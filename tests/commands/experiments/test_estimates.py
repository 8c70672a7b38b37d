"""Hours of runs: closed forms, and finished runs that replace what was measured elsewhere."""

from __future__ import annotations

from pathlib import Path

from commands.experiments.estimates import MEASURED, MEASURED_ON, Rates, hours_of, rates_of
from commands.experiments.records import Record
from commands.experiments.runs import Run
from commands.experiments.work import Work
from tests.commands.experiments.small_study import run


def test_hours_are_work_times_rates() -> None:
    rates = Rates(training=2, tests=0.5, masks=None)
    assert hours_of(Work(training=3600, tests=7200), rates) == 2 + 1
    assert hours_of(Work(), rates) == 0
    assert hours_of(Work(masks=1), rates) is None
    assert hours_of(Work(training=None), rates) is None


def test_rates_of_a_family_that_was_measured(tmp_path: Path) -> None:
    rates, source = rates_of("mobilenetv2", [run(tmp_path, "a", work=Work(tests=10))], {})
    assert (rates, source) == (MEASURED["mobilenetv2"], f"training, tests, masks: {MEASURED_ON}")
    rates, source = rates_of("demo", [], {})
    assert rates == Rates(None, None, None)
    assert source == "training, tests, masks: not measured for demo, counted as 0"


def finished(*records: tuple[Run, float, bool]) -> dict[str, Record | None]:
    return {run.name: Record(settings="", seconds=seconds, whole=whole) for run, seconds, whole in records}


def test_finished_runs_count_first(tmp_path: Path) -> None:
    """Of a training the seconds of its validations are left out, and so are runs that were continued."""
    names = ("training", "test", "longer", "continued", "masks")
    works = (Work(training=100, tests=50), Work(tests=100), Work(tests=300), Work(tests=100), Work(masks=8))
    runs = [run(tmp_path, name, work=work) for name, work in zip(names, works, strict=True)]
    training, test, longer, continued, masks = runs
    done = finished((test, 250, True), (longer, 550, True), (continued, 1, False))
    rates, source = rates_of("resnet50", runs, done)
    assert rates == Rates(training=9.64 / 4, tests=800 / 400, masks=None)
    assert (
        source
        == f"tests: runs that are finished; training: {MEASURED_ON}; masks: not measured for resnet50, counted as 0"
    )
    done |= finished((training, 400, True), (masks, 4, True))
    rates, source = rates_of("resnet50", runs, {**done, "lists": None})
    assert rates == Rates(training=(400 - 50 * 2) / 100, tests=2, masks=0.5)
    assert source == "training, tests, masks: runs that are finished"
