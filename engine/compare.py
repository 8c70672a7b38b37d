"""Which of two methods is better, and with what certainty: paired differences over the same episodes.

``python -m engine.compare FOLDER... --against FOLDER...`` takes the run folders of two methods, one for each fold.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.metrics import EpisodeScore
from engine.results import read_test
from engine.scores import SCORES
from util.arguments import Parser, whole_number
from util.errors import UserError, run_command
from util.seed import numpy_random

# Tests that differ in one of these have different episodes or count different pixels.
_SAME = {"dataset", "val_list", "split", "shots", "episodes", "seed", "min_area", "compat"}
_LEVEL = 95  # percent of the draws that lie in the interval


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
    """Two methods on the same episodes of one fold: the rows of their tables have the same classes and queries."""

    name: str
    first: list[EpisodeScore]
    second: list[EpisodeScore]


def compare(tests: Sequence[PairedTest], *, draws: int = 2000, seed: int = 0) -> list[Difference]:
    """Differences of mIoU for each test and, last, for the mean over the tests.

    The interval comes from a bootstrap: images are drawn with replacement ``draws`` times, all episodes of a query
    image together because they share its pixels, and the same images for both methods and for every fold. It covers
    the choice of test images, not the randomness of training.
    """
    images = sorted({row.query for test in tests for row in test.first})
    column_of = {image: column for column, image in enumerate(images)}
    chance = np.full(len(images), 1 / len(images))
    times_drawn = numpy_random(seed, "bootstrap").multinomial(len(images), chance, size=draws)
    # The first line is the test itself: every image once.
    times_drawn = np.concatenate([np.ones_like(times_drawn[:1]), times_drawn])
    first, second = (
        _with_mean([_mious(rows, times_drawn, column_of) for rows in method])
        for method in zip(*((test.first, test.second) for test in tests), strict=True)
    )
    outside = (100 - _LEVEL) / 2
    low, high = np.percentile((first - second)[:, 1:], [outside, 100 - outside], axis=1)
    return [Difference(*map(float, values)) for values in zip(first[:, 0], second[:, 0], low, high, strict=True)]


def paired_test(first: Path, second: Path) -> PairedTest:
    """Read two run folders; raises ``UserError`` where they were not tested on the same episodes."""
    (results, first_scores), (other, second_scores) = read_test(first), read_test(second)
    settings = [tested.protocol.model_dump(include=_SAME) for tested in (results, other)]
    different = [
        f"{key} {value} and {settings[1][key]}" for key, value in settings[0].items() if value != settings[1][key]
    ]
    if different:
        raise UserError(f"{first} and {second} were not tested on the same episodes: {'; '.join(different)}")
    if [_episode(row) for row in first_scores] != [_episode(row) for row in second_scores]:
        raise UserError(f"{first / SCORES} and {second / SCORES} hold different episodes; test both again")
    return PairedTest(f"fold {results.protocol.split}", first_scores, second_scores)


def table(tests: Sequence[PairedTest], differences: Sequence[Difference]) -> str:
    """A line for each test and one for their mean."""
    names = [*(test.name for test in tests), "mean"]
    lines = [f"{'':<8} {'first':>7} {'second':>7} {'difference':>10}  {_LEVEL} % interval"]
    lines += [
        f"{name:<8} {value.first:>7.2f} {value.second:>7.2f} {value.difference:>+10.2f}  "
        f"{value.low:+.2f} to {value.high:+.2f}"
        for name, value in zip(names, differences, strict=True)
    ]
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
        "--draws", type=whole_number(100, 20_000), default=2000, help="draws of the bootstrap (%(default)s)"
    )
    parsed = parser.parse_args(arguments)
    if len(parsed.first) != len(parsed.against):
        raise UserError(f"{len(parsed.first)} folders against {len(parsed.against)}; --against needs as many")
    tests = [paired_test(first, second) for first, second in zip(parsed.first, parsed.against, strict=True)]
    sys.stdout.write(table(tests, compare(tests, draws=parsed.draws)) + "\n")


def _with_mean(values: Sequence[np.ndarray]) -> np.ndarray:
    """(tests + 1, draws): the values and, last, their mean."""
    return np.stack([*values, np.mean(values, axis=0)])


def _mious(rows: Sequence[EpisodeScore], times_drawn: np.ndarray, column_of: dict[str, int]) -> np.ndarray:
    """mIoU in percent for each line of ``times_drawn`` (draws, images); classes that a draw leaves out do not count."""
    columns = np.array([column_of[row.query] for row in rows])
    slots = np.array([row.slot for row in rows])
    overlap = np.array([row.areas.overlap for row in rows])
    union = np.array([row.areas.predicted + row.areas.true for row in rows]) - overlap
    ious = []
    for slot in np.unique(slots):
        chosen = slots == slot
        times = times_drawn[:, columns[chosen]]
        drawn = times @ union[chosen]
        ious.append(np.where(drawn > 0, times @ overlap[chosen] / np.maximum(drawn, 1), np.nan))
    return 100 * np.nanmean(ious, axis=0)


def _episode(row: EpisodeScore) -> tuple[int, str, int, int]:
    return row.slot, row.query, row.areas.true, row.areas.pixels


if __name__ == "__main__":
    run_command(main)
