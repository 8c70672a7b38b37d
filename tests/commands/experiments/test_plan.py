"""The plan as it is printed: every run once, and totals that add up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from commands.experiments.__main__ import main
from commands.experiments.plan import plan_text
from commands.experiments.records import finished_runs, write_record
from commands.experiments.runs import all_runs
from tests.commands.experiments.small_study import study
from util.files import write_text

LINE = re.compile(r" *(\d+)  (\S+) +([\d.]+|\?|done)(?:  (.+))?")
TOTALS = re.compile(
    r"(\d+) runs, (\d+) done; (\d+) to do: ([\d,.]+) hours of computing, ([\d,.]+) hours on 8 GPUs; "
    r"the longest chain takes ([\d,.]+)"
)
# Seconds on two cores (docs/speed.md): steps of 4 of the benchmark's images, 1,000 test episodes of 2 or 6 images.
STEP, EPISODE = 9.64, 1.21
TEST = {1: 1000 * EPISODE, 5: 3000 * EPISODE}
SUPERVISED = {percent: 100 * (5953 * percent // 100 // 4 * STEP + TEST[1]) for percent in (5, 10, 20, 100)}
UNSUPERVISED = 200 * (5953 // 4) * STEP


@pytest.fixture
def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The plan of PASCAL with ResNet-50 on eight GPUs, before its lists are there."""
    words = [f"DATA.train_list={tmp_path}/train.txt", "--gpus", "0,1,2,3,4,5,6,7", "--output", str(tmp_path)]
    main(["pascal", "resnet50", "--plan", *words])
    return capsys.readouterr().out.splitlines()


def test_the_plan_of_pascal_on_eight_gpus(printed: list[str]) -> None:
    lines = [match.groups() for line in printed if (match := LINE.fullmatch(line))]
    assert [int(number) for number, *_ in lines] == list(range(1, 182))
    hours = {name: time for _, name, time, _ in lines}
    assert hours["masks"] == "?"
    for name, seconds in {
        "unsupervised/seed_123": UNSUPERVISED,
        "tuned_20/fold2/seed_123": SUPERVISED[20],
        "scratch_100/fold0/seed_123": SUPERVISED[100],
        "nearest/fold1_5shot": TEST[5],
        "tuned_5/fold3_1shot/seed_123": TEST[1],
    }.items():
        assert float(hours[name]) == pytest.approx(seconds / 3600, abs=0.006)
    # Whatever a run needs stands before it.
    places = {name: place for place, (_, name, _, _) in enumerate(lines)}
    for _, name, _, needs in lines:
        assert all(places[need] < places[name] for need in (needs or "").split(", ") if need)


def test_the_totals_add_up(printed: list[str]) -> None:
    (totals,) = filter(None, map(TOTALS.fullmatch, printed))
    runs, done, left, *times = totals.groups()
    computing, wall, chain = (float(time.replace(",", "")) for time in times)
    assert (runs, done, left) == ("181", "0", "181")
    tests = 16 * 4 * (TEST[1] + TEST[5])
    assert computing == pytest.approx((UNSUPERVISED + 3 * 4 * sum(SUPERVISED.values()) + tests) / 3600, abs=0.06)
    assert chain == pytest.approx((UNSUPERVISED + SUPERVISED[100] + TEST[5]) / 3600, abs=0.06)
    assert max(chain, computing / 8) <= wall <= chain + computing / 8  # of any order that leaves no place empty
    assert printed[-1] == (
        "hours: training, tests: two CPU cores (docs/speed.md); masks: not measured for resnet50, counted as 0; a GPU "
        "takes fewer, not measured yet"
    )


def test_stages_name_the_numbers_of_their_runs(printed: list[str]) -> None:
    stages = [tuple(map(int, match.groups())) for line in printed if (match := re.fullmatch(STAGE, line))]
    assert [stage for stage, _, _ in stages] == [1, 2, 3, 4]
    assert [first for _, first, _ in stages] == [1, *(last + 1 for _, _, last in stages[:-1])]
    assert stages[-1][2] == 181


STAGE = r"stage (\d): runs (\d+) to (\d+)"


def test_what_is_done_takes_no_hours(tmp_path: Path) -> None:
    asked = study(tmp_path, "--only", "nearest")
    runs = all_runs(asked)
    write_text(runs[0].product, "")
    write_record(runs[0], 3600.0, whole=True)
    lines = plan_text(runs, finished_runs(runs), "resnet50", 1, on_gpus=False).splitlines()
    assert lines[2].split()[-1] == "done"
    # One shot took an hour, five take three.
    assert lines[-2] == (
        "8 runs, 1 done; 7 to do: 15.0 hours of computing, 15.0 hours with 1 at once; the longest chain takes 3.0"
    )
    assert "tests: runs that are finished" in lines[-1]
