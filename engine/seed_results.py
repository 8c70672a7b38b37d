"""The tests of one experiment that was trained with several seeds: a folder for each, and their mean and spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from engine.bootstrap import LEVEL, miou_interval
from engine.folder_results import FolderResults, holds_folder_test, read_folder_test
from engine.metrics import EpisodeScore
from engine.results import RESULTS, Interval, Percent, Results, ResultsPart, TestedAs, read_test
from util.errors import UserError
from util.files import write_json
from util.settings import read_model

SEEDS = "seeds.json"
_AGAIN = "run bash test.sh with TRAIN.seeds again"


class Spread(ResultsPart):
    """A metric in percent over the seeds; of one seed there is no standard deviation (that with n - 1)."""

    mean: Percent
    deviation: float | None = Field(ge=0)
    lowest: Percent
    highest: Percent


class SeedResults(ResultsPart):
    """``seeds.json``; the interval covers other test images and other seeds (``engine.bootstrap``)."""

    seeds: list[int] = Field(min_length=1)
    miou: Spread
    miou_interval: Interval
    fb_iou: Spread
    protocol: TestedAs


class RepeatedTest(NamedTuple):
    """The test in a run folder with the scores of each seed; of a test without seeds, the one table of its scores."""

    folder: Path
    seeds: list[int]
    protocol: TestedAs
    tables: list[list[EpisodeScore]]

    def describe_seeds(self) -> str:
        return f"the seeds {', '.join(map(str, self.seeds))}" if self.seeds else "no seeds"


def seed_folder(folder: Path, seed: int) -> Path:
    """Where in a run folder the run with a seed of ``TRAIN.seeds`` is."""
    return folder / f"seed_{seed}"


def save_seed_results(folder: Path, seeds: Sequence[int]) -> SeedResults:
    """Write ``seeds.json`` from the tests of the seeds. Raises ``UserError`` where these were not tested alike."""
    tests = [read_test(seed_folder(folder, seed)) for seed in seeds]
    protocols = [results.protocol for results, _ in tests]
    _check_alike(folder, seeds, protocols)
    results = SeedResults(
        seeds=list(seeds),
        miou=_spread([results.miou for results, _ in tests]),
        miou_interval=miou_interval([scores for _, scores in tests]),
        fb_iou=_spread([results.fb_iou for results, _ in tests]),
        protocol=protocols[0],
    )
    write_json(folder / SEEDS, results.model_dump())
    return results


def read_seed_results(folder: Path) -> SeedResults:
    """What ``save_seed_results`` wrote. Raises ``UserError`` for a file that holds something else."""
    return read_model(folder / SEEDS, SeedResults, "the results of several seeds", _AGAIN)


def read_repeated_test(folder: Path) -> RepeatedTest:
    """The test of the seeds in ``seeds.json`` of ``folder``, else the one in it, else those of all seeds in it.

    Raises ``UserError`` for a folder without one, and where the seeds were not tested alike.
    """
    seeds = _seeds_in(folder)
    tests = [_read_any_test(place) for place in ([seed_folder(folder, seed) for seed in seeds] or [folder])]
    _check_alike(folder, seeds, [results.protocol for results, _ in tests])
    return RepeatedTest(folder, seeds, tests[0][0].protocol, [scores for _, scores in tests])


def seeds_table(results: SeedResults) -> str:
    """Mean, standard deviation and range over the seeds, for the terminal."""
    lines = [f"{'seeds':>16}  {', '.join(map(str, results.seeds))}"]
    for name, spread in (("mIoU", results.miou), ("FB-IoU", results.fb_iou)):
        deviation = "-" if spread.deviation is None else f"{spread.deviation:.2f}"
        lines.append(
            f"{name:>16}  {spread.mean:6.2f}  standard deviation {deviation}, "
            f"{spread.lowest:.2f} to {spread.highest:.2f}"
        )
    low, high = results.miou_interval
    lines.append(f"{'':>16}  {LEVEL} % interval of the mIoU {low:.2f} to {high:.2f}, over test images and seeds")
    return "\n".join(lines)


def _read_any_test(folder: Path) -> tuple[Results | FolderResults, list[EpisodeScore]]:
    """Of episodes, or of every photograph, then with what the gate left marked."""
    if (folder / RESULTS).is_file() and holds_folder_test(folder):
        return read_folder_test(folder)
    return read_test(folder)


def _seeds_in(folder: Path) -> list[int]:
    if (folder / SEEDS).is_file():
        return read_seed_results(folder).seeds
    if (folder / RESULTS).is_file():
        return []
    names = [path.parent.name.removeprefix("seed_") for path in folder.glob(f"seed_*/{RESULTS}")]
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def _check_alike(folder: Path, seeds: Sequence[int], protocols: Sequence[TestedAs]) -> None:
    """Raise ``UserError`` that names a seed which was tested in another way than the first; of no seed none was."""
    for seed, protocol in zip(seeds, protocols, strict=False):
        if protocol != protocols[0]:
            raise UserError(
                f"{seed_folder(folder, seed)}: tested in another way than {seed_folder(folder, seeds[0])}; {_AGAIN}"
            )


def _spread(values: Sequence[float]) -> Spread:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(mean=statistics.fmean(values), deviation=deviation, lowest=min(values), highest=max(values))
