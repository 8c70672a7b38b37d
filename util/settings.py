"""Settings that something was made with: reading them, what is wrong, comparing them to those that are expected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from util.errors import UserError
from util.files import read_json

_Model = TypeVar("_Model", bound=BaseModel)

_MOST_PROBLEMS = 5


def differences(actual: Mapping[str, Any], expected: Mapping[str, Any], prefix: str = "") -> list[str]:
    """A phrase for each value of ``expected`` that ``actual`` lacks or that differs; nested mappings key by key.

    ``"TRAIN.epochs is 3 there, 4 expected"``; ``prefix`` comes before the keys.
    """
    phrases: list[str] = []
    for key, value in expected.items():
        there = actual.get(key, "absent")
        if isinstance(value, Mapping):
            phrases += differences(there if isinstance(there, Mapping) else {}, value, f"{prefix}{key}.")
        elif key not in actual or there != value:
            phrases.append(f"{prefix}{key} is {there} there, {value} expected")
    return phrases


def require_same(source: Path, actual: Mapping[str, Any], expected: Mapping[str, Any], *, advice: str) -> None:
    """Raise ``UserError`` that ends with ``advice`` when ``source`` was made with other settings than ``expected``.

    ``actual`` are the settings that it was made with, possibly more than those compared.
    """
    different = differences(actual, expected)
    if different:
        raise UserError(f"{source}: made with other settings ({'; '.join(different)}); {advice}")


def read_model(path: Path, model: type[_Model], title: str, advice: str) -> _Model:
    """What a JSON file holds, checked by pydantic's ``model``.

    Raises what ``util.files.read_json`` raises, and ``UserError`` that says "not ``title``" and ends with ``advice``.
    """
    try:
        return model.model_validate(read_json(path, advice))
    except ValidationError as error:
        raise UserError(f"{path}: not {title} ({describe_problems(error)}); {advice}") from None


def describe_problems(error: ValidationError) -> str:
    """A phrase on one line for each value of a file that is not as pydantic's model demands, five at most."""
    problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
    shown = "; ".join(" ".join(problem.split()) for problem in problems[:_MOST_PROBLEMS])
    return f"{shown}; and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else shown
