"""Comparisons for the tests: of the published experiments, and runs that are small shell scripts."""

from __future__ import annotations

from pathlib import Path

from commands.experiments.request import options_parser, study_of
from commands.experiments.runs import Run, Study
from commands.experiments.work import Work


def study(output: Path, *words: str, experiments: str = "pascal resnet50") -> Study:
    """What ``experiments.sh DATASET FAMILY --output OUTPUT`` and more words ask for."""
    return study_of(options_parser().parse_intermixed_args([*experiments.split(), "--output", str(output), *words]))


def run(folder: Path, name: str, script: str = "touch product", *needs: str, work: Work | None = None) -> Run:
    """A run of a shell script in its own folder, which should leave ``product`` there."""
    return Run(
        name=name,
        command=("sh", "-c", f"cd {folder / name} && {script}"),
        folder=folder / name,
        product=folder / name / "product",
        settings="some",
        work=work or Work(),
        needs=needs,
    )
