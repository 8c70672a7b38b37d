"""What is wrong with a dataset, printed in the terminal or written to a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from util.files import write_json

_LINES_OF_A_KIND = 20


class Problem(NamedTuple):
    """One line about one thing that is wrong; ``kind`` is the plural of what it is, like "missing images".

    A warning stops no experiment.
    """

    kind: str
    message: str
    is_warning: bool = False


def print_problems(problems: Sequence[Problem]) -> None:
    """Print errors, then warnings, both grouped by kind, with the first twenty of each kind."""
    for is_warning, prefix in ((False, "error"), (True, "warning")):
        chosen = [problem for problem in problems if problem.is_warning == is_warning]
        for kind in dict.fromkeys(problem.kind for problem in chosen):
            messages = [problem.message for problem in chosen if problem.kind == kind]
            for message in messages[:_LINES_OF_A_KIND]:
                print(f"{prefix}: {message}")
            if len(messages) > _LINES_OF_A_KIND:
                print(f"  and {len(messages) - _LINES_OF_A_KIND:,} more {kind}; --report FILE.json lists them all")


def write_report(path: Path, dataset: str, problems: Sequence[Problem]) -> None:
    """Write all problems as JSON: ``{"dataset", "errors": [{"kind", "message"}, ...], "warnings": [...]}``."""
    lists: dict[str, list[dict[str, str]]] = {"errors": [], "warnings": []}
    for problem in problems:
        entry = {"kind": problem.kind, "message": problem.message}
        lists["warnings" if problem.is_warning else "errors"].append(entry)
    write_json(path, {"dataset": dataset, **lists})
