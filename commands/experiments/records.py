"""What is finished: every run that ended well leaves a record in its folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from commands.experiments.runs import Run
from util.files import write_json
from util.settings import read_model

_RECORD = "finished.json"


class Record(BaseModel):
    """A run that ended well: its settings and the seconds that it took; ``whole`` where it was not continued."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    settings: str
    seconds: float = Field(ge=0)
    whole: bool


def finished_runs(runs: Iterable[Run]) -> dict[str, Record | None]:
    """The runs of which nothing is left to do, with their records; a list that is there needs none.

    A run is finished when it was run with the same settings, what it leaves is there, and the runs that it needs are
    finished and have not been run again since. ``runs`` are in the order of their stages. Raises ``UserError`` for a
    damaged record.
    """
    finished: dict[str, Record | None] = {}
    folders: dict[str, Path] = {}
    for run in runs:
        folders[run.name] = run.folder
        record = _read(run.folder)
        same = record is not None and record.settings == run.settings
        if not run.settings:  # nothing but its name decides what a list holds
            same = True
        newest = max((_time(folders[need]) for need in run.needs), default=0)
        if same and run.product.is_file() and finished.keys() >= set(run.needs) and _time(run.folder) >= newest:
            finished[run.name] = record
    return finished


def write_record(run: Run, seconds: float, *, whole: bool) -> None:
    """State that the run is finished."""
    write_json(run.folder / _RECORD, Record(settings=run.settings, seconds=seconds, whole=whole).model_dump())


def _read(folder: Path) -> Record | None:
    path = folder / _RECORD
    advice = "delete it, and the run is looked at again"
    return read_model(path, Record, "the record of a run", advice) if path.is_file() else None


def _time(folder: Path) -> int:
    """When the run in ``folder`` was finished, in nanoseconds; 0 where that is not recorded."""
    path = folder / _RECORD
    return path.stat().st_mtime_ns if path.is_file() else 0
