"""Which of two methods is better, and with what certainty: paired differences over the same episodes.

``python -m engine.compare FOLDER... --against FOLDER...`` takes the run folders of two methods, one for each fold. A
folder that was tested with ``TRAIN.seeds`` stands for all of its seeds. Tests of every photograph are compared by the
IoU of their folder, as the gate leaves it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.bootstrap import DRAWS, LEVEL, Bootstrap, interval
from engine.metrics import EpisodeScore
from engine.seed_results import RepeatedTest, read_repeated_test
from util.arguments import Parser, whole_number
from util.errors import UserError, run_command

# Tests that differ in one of these have different episodes or count different pixels.
_SAME = {"dataset", "val_list", "split", "shots", "episodes", "seed", "min_area", "compat"}


class Difference(NamedTuple):
    """mIoU in percent of both methods, the difference, and the 95 % interval of the difference."""

    first: float
    second: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        return self.first - self.second


class PairedTest(NamedTuple):
    """Two methods on the same episodes of one fold, a table for each seed that a method was trained with.

    The rows of all tables have the same classes and queries.
    """

    name: str
    first: Sequence[Sequence[EpisodeScore]]
    second: Sequence[Sequence[EpisodeScore]]


def compare(tests: Sequence[PairedTest], *, draws: int = DRAWS, seed: int = 0) -> list[Difference]:
    """Differences of mIoU for each test and, last, for the mean over the tests.

    The interval comes from a bootstrap (``engine.bootstrap``) over the query images, the same ones for both methods and
    for every fold. It covers the choice of test images. Where a method has several seeds, its mIoU is the mean over
    them, and each draw also draws its seeds, with replacement, the same for every fold and apart from those of the
    other method: the interval covers the randomness of its training too.
    """
    bootstrap = _bootstrap(tests, draws, seed)
    first = _with_mean([bootstrap.mious(test.first, "first") for test in tests])
    second = _with_mean([bootstrap.mious(test.second, "second") for test in tests])
    return [*map(_difference, first, second)]


def compare_classes(tests: Sequence[PairedTest], *, draws: int = DRAWS, seed: int = 0) -> dict[int, Difference]:
    """Differences of IoU for each class of the tests, with intervals as those of ``compare``."""
    bootstrap = _bootstrap(tests, draws, seed)
    differences: dict[int, Difference] = {}
    for test in tests:
        first, second = bootstrap.ious(test.first, "first"), bootstrap.ious(test.second, "second")
        differences |= {number: _difference(first[number], second[number]) for number in first}
    return differences


def read_method(folders: Sequence[Path]) -> list[RepeatedTest]:
    """The tests of a method, one for each fold; raises ``UserError`` where their seeds differ."""
    tests = [read_repeated_test(folder) for folder in folders]
    for test in tests:
        if test.seeds != tests[0].seeds:
            raise UserError(
                f"{test.folder} has {test.describe_seeds()}, {tests[0].folder} has {tests[0].describe_seeds()}; "
                "test every fold with the same TRAIN.seeds"
            )
    return tests


def paired_test(first: RepeatedTest, second: RepeatedTest) -> PairedTest:
    """Raises ``UserError`` where two methods were not tested on the same episodes."""
    settings = [test.protocol.model_dump(include=_SAME) for test in (first, second)]
    different = [
        f"{key} {value} and {settings[1][key]}" for key, value in settings[0].items() if value != settings[1][key]
    ]
    if different:
        raise UserError(
            f"{first.folder} and {second.folder} were not tested on the same episodes: {'; '.join(different)}"
        )
    if len({tuple(map(_episode, rows)) for rows in (*first.tables, *second.tables)}) > 1:
        raise UserError(f"{first.folder} and {second.folder} hold different episodes; test both again")
    return PairedTest(f"fold {first.protocol.split}", first.tables, second.tables)


def table(tests: Sequence[PairedTest], differences: Sequence[Difference], classes: Mapping[int, Difference]) -> str:
    """A line for each test and one for their mean; one for the numbers of seeds if there are several; then the classes.

    The last line says how many classes lose, and by how much at most.
    """
    lines = [f"{'':<8} {'first':>7} {'second':>7} {'difference':>10}  {LEVEL} % interval"]
    lines += map(_line, [*(test.name for test in tests), "mean"], differences)
    seeds = len(tests[0].first), len(tests[0].second)
    if seeds != (1, 1):
        lines.append(f"{'seeds':<8} {seeds[0]:>7} {seeds[1]:>7}{'':>12} drawn too where there are several")
    lines += [_line(f"class {number}", value) for number, value in classes.items()]
    lines.append(_losers(classes))
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """The command ``python -m engine.compare``."""
    parser = Parser(prog="python -m engine.compare", description="Paired differences of two methods.")
    parser.add_argument("first", nargs="+", type=Path, metavar="FOLDER", help="run folders of the first method")
    parser.add_argument(
        "--against",
        nargs="+",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="run folders of the second method, in the same order",
    )
    parser.add_argument(
        "--draws", type=whole_number(100, 20_000), default=DRAWS, help="draws of the bootstrap (%(default)s)"
    )
    parsed = parser.parse_args(arguments)
    if len(parsed.first) != len(parsed.against):
        raise UserError(f"{len(parsed.first)} folders against {len(parsed.against)}; --against needs as many")
    methods = [read_method(folders) for folders in (parsed.first, parsed.against)]
    tests = [paired_test(first, second) for first, second in zip(*methods, strict=True)]
    differences = compare(tests, draws=parsed.draws)
    sys.stdout.write(table(tests, differences, compare_classes(tests, draws=parsed.draws)) + "\n")


def _bootstrap(tests: Sequence[PairedTest], draws: int, seed: int) -> Bootstrap:
    return Bootstrap((row.query for test in tests for row in test.first[0]), draws=draws, seed=seed)


def _difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Of the values of all draws, the test itself first."""
    return Difference(float(first[0]), float(second[0]), *interval(first - second))


def _line(name: str, value: Difference) -> str:
    return (
        f"{name:<8} {value.first:>7.2f} {value.second:>7.2f} {value.difference:>+10.2f}  "
        f"{value.low:+.2f} to {value.high:+.2f}"
    )


def _losers(classes: Mapping[int, Difference]) -> str:
    losing = sum(value.difference < 0 for value in classes.values())
    surely = sum(value.high < 0 for value in classes.values())
    lowest = min(classes, key=lambda number: classes[number].difference)
    return (
        f"{losing} of {len(classes)} classes lose, {surely} with an interval below 0; "
        f"the lowest difference is {classes[lowest].difference:+.2f}, of class {lowest}"
    )


def _with_mean(values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The values of each test and, last, their mean."""
    return [*values, np.mean(values, axis=0)]


def _episode(row: EpisodeScore) -> tuple[int, str, int, int]:
    return row.slot, row.query, row.areas.true, row.areas.pixels


if __name__ == "__main__":
    run_command(main)
