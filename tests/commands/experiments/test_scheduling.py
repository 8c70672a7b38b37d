"""The order of runs: needs first, as many at once as there are places, no run lost to the failure of another."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from commands.experiments.runs import Run
from commands.experiments.scheduling import Simulation, run_all
from tests.commands.experiments.small_study import run


class Recorder(Simulation):
    """Notes when each run begins and ends; those in ``bad`` fail."""

    def __init__(self, places: int, hours: dict[str, float], bad: tuple[str, ...] = ()) -> None:
        super().__init__(places, hours)
        self.bad, self.begun, self.ended = bad, {}, {}  # type: tuple[str, ...], dict[str, float], dict[str, float]
        self.most_at_once = 0

    def start(self, run: Run, place: int) -> None:
        self.begun[run.name] = self.now
        self.most_at_once = max(self.most_at_once, len(self.begun) - len(self.ended))
        super().start(run, place)

    def wait(self) -> tuple[Run, int, bool]:
        run, place, _ = super().wait()
        self.ended[run.name] = self.now
        return run, place, run.name not in self.bad


def chain(folder: Path, needs: dict[str, str]) -> list[Run]:
    return [run(folder, name, "", *needed.split()) for name, needed in needs.items()]


@pytest.mark.parametrize("places", [1, 2, 3, 100])
def test_random_runs_keep_the_rules(tmp_path: Path, places: int) -> None:
    chance = random.Random(places)
    names = [f"run{number}" for number in range(40)]
    needs = {
        name: " ".join(chance.sample(names[:number], min(number, chance.randrange(3))))
        for number, name in enumerate(names)
    }
    hours = {name: chance.uniform(0, 5) for name in names}
    recorder = Recorder(places, hours)
    outcome = run_all(chain(tmp_path, needs), (), recorder)
    assert sorted(outcome.done) == sorted(names) and not outcome.failed and not outcome.left_out
    assert recorder.most_at_once <= places
    for name, needed in needs.items():
        assert all(recorder.ended[need] <= recorder.begun[name] for need in needed.split())
    assert sum(hours.values()) / places <= recorder.now + 1e-9
    if places == 1:
        assert recorder.now == pytest.approx(sum(hours.values()))
    if places == 100:  # nothing waits but for what it needs
        for name, needed in needs.items():
            assert recorder.begun[name] == max((recorder.ended[need] for need in needed.split()), default=0)


def test_places_are_filled_in_the_order_of_the_table(tmp_path: Path) -> None:
    runs = chain(tmp_path, {"a": "", "b": "a", "c": "", "d": "", "e": "b"})
    recorder = Recorder(2, {"a": 3, "b": 4, "c": 1, "d": 5, "e": 1})
    run_all(runs, (), recorder)
    assert recorder.begun == {"a": 0, "c": 0, "d": 1, "b": 3, "e": 7}
    assert recorder.now == 8


def test_a_failure_leaves_out_what_needs_it_and_nothing_else(tmp_path: Path) -> None:
    runs = chain(tmp_path, {"a": "", "b": "", "c": "a", "d": "b", "e": "c d", "f": "d"})
    outcome = run_all(runs, (), Recorder(1, dict.fromkeys("abcdef", 1.0), bad=("a",)))
    assert (outcome.done, outcome.failed, outcome.left_out) == (["b", "d", "f"], ["a"], ["c", "e"])


def test_what_is_finished_is_not_run_again(tmp_path: Path) -> None:
    runs = chain(tmp_path, {"a": "", "b": "a", "c": "b"})
    assert run_all(runs, {"a", "b"}, Recorder(1, {"c": 1})).done == ["c"]
    assert run_all(runs, {"a", "b", "c"}, Recorder(1, {})).done == []
