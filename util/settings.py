"""Comparing the settings that something was made with to those that are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from util.errors import UserError


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """A phrase for each value of ``asked`` that ``there`` lacks or has otherwise; nested mappings key by key.

    ``"TRAIN.epochs is 3 there, 4 asked"``
    """
    found = _flatten(there)
    return [
        f"{key} is {found.get(key, 'absent')} there, {value} asked"
        for key, value in _flatten(asked).items()
        if key not in found or found[key] != value
    ]


def require_same(source: Path, there: Mapping[str, Any], asked: Mapping[str, Any], *, advice: str) -> None:
    """Raise ``UserError`` that ends with ``advice`` when ``there``, which made ``source``, is not what is ``asked``."""
    different = differences(there, asked)
    if different:
        raise UserError(f"{source}: made with other settings ({'; '.join(different)}); {advice}")


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
