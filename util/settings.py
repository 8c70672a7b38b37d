"""Settings that something was made with: what is wrong with them, and comparing them to those that are expected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from util.errors import UserError

_MOST_PROBLEMS = 5


def differences(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """A phrase for each value of ``expected`` that ``actual`` lacks or that differs; nested mappings key by key.

    ``"TRAIN.epochs is 3 there, 4 expected"``
    """
    actual = _flatten(actual)
    return [
        f"{key} is {actual.get(key, 'absent')} there, {value} expected"
        for key, value in _flatten(expected).items()
        if key not in actual or actual[key] != value
    ]


def require_same(source: Path, actual: Mapping[str, Any], expected: Mapping[str, Any], *, advice: str) -> None:
    """Raise ``UserError`` that ends with ``advice`` when ``source`` was made with other settings than ``expected``.

    ``actual`` are the settings that it was made with, possibly more than those compared.
    """
    different = differences(actual, expected)
    if different:
        raise UserError(f"{source}: made with other settings ({'; '.join(different)}); {advice}")


def describe_problems(error: ValidationError) -> str:
    """A phrase on one line for each value of a file that is not as pydantic's model demands, five at most."""
    problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
    shown = "; ".join(" ".join(problem.split()) for problem in problems[:_MOST_PROBLEMS])
    return f"{shown}; and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else shown


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
