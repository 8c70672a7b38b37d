"""util.config: every experiment keeps its settings, which ``experiment_digests.json`` holds as digests.

A setting that differs fails twice: by its experiment and by its key. The digests cover the keys of the table alone, so
a key that is added to the schema changes none of them. After an intended change, write the table again with
``python -m tests.util.config.test_config_values``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from util.config import experiments, load_config
from util.files import PROJECT, read_json, write_json

_TABLE_FILE = Path(__file__).with_name("experiment_digests.json")
_TABLE: dict[str, dict[str, str]] = read_json(_TABLE_FILE)
_OVERRIDES: dict[str, list[str]] = {"ours": [], "published": ["TRAIN.compat=published", "TRAIN.pseudo_share=0"]}

Settings = dict[str, Any]  # "SECTION.key" -> JSON value, paths relative to the project


def settings(name: str, compat: str) -> Settings:
    """The settings of "DATASET EXPERIMENT"."""
    dataset, experiment = name.split()
    sections = load_config(dataset, experiment, _OVERRIDES[compat]).model_dump(mode="json")
    return {
        f"{section}.{key}": value.removeprefix(f"{PROJECT}/") if isinstance(value, str) else value
        for section, keys in sections.items()
        if isinstance(keys, dict)
        for key, value in keys.items()
    }


def digest(value: object) -> str:
    """SHA-256 of canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest_of_experiment(name: str, keys: list[str]) -> str:
    """Of "DATASET EXPERIMENT", with and without ``TRAIN.compat=published``."""
    rows = {compat: settings(name, compat) for compat in _OVERRIDES}
    return digest({compat: {key: row.get(key, "absent") for key in keys} for compat, row in rows.items()})


def digests_of_keys(names: list[str], keys: list[str]) -> dict[str, str]:
    """Of the values that each key has in all experiments."""
    rows = {f"{name} {compat}": settings(name, compat) for name in names for compat in _OVERRIDES}
    return {key: digest({name: row.get(key, "absent") for name, row in rows.items()}) for key in keys}


def all_names() -> list[str]:
    return [f"{dataset} {name}" for dataset in ("coco", "pascal", "shapes") for name in experiments(dataset)]


def write_table() -> None:
    keys, names = list(_TABLE["keys"]), all_names()
    by_experiment = {name: digest_of_experiment(name, keys) for name in names}
    write_json(_TABLE_FILE, {"experiments": by_experiment, "keys": digests_of_keys(names, keys)})


def test_the_table_holds_every_experiment() -> None:
    assert all_names() == list(_TABLE["experiments"])
    assert len(all_names()) == 60


@pytest.mark.parametrize("name", _TABLE["experiments"])
def test_settings_of_an_experiment(name: str) -> None:
    assert digest_of_experiment(name, list(_TABLE["keys"])) == _TABLE["experiments"][name]


def test_settings_of_a_key() -> None:
    actual = digests_of_keys(list(_TABLE["experiments"]), list(_TABLE["keys"]))
    assert [key for key, value in actual.items() if value != _TABLE["keys"][key]] == []


if __name__ == "__main__":
    write_table()
