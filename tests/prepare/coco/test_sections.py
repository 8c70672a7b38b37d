"""Parsing section by section gives what Python's parser gives."""

from __future__ import annotations

import json

import numpy as np
import pytest

from prepare.coco.sections import parse_sections

VALUES = [
    None,
    1.5,
    "a",
    [],
    {},
    {"a": [1, {"a": [2]}], "b": []},
    [{"a": [1]}],
    {"": {"a": [3]}, "a": 5, "c": "\u00e9"},
]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("indent", [None, 2])
def test_values_come_back(value: object, indent: int | None) -> None:
    text = f" \r\n\t{json.dumps(value, indent=indent)}\n"
    assert parse_sections(text, {}) == value
    assert parse_sections(text, {"a": lambda entry: entry}) == value


def test_only_entries_of_named_lists_on_the_first_level_are_converted() -> None:
    value = {"a": [1, [2], {"a": [3]}], "b": {"a": [4]}, "c": [5]}
    assert parse_sections(json.dumps(value), {"a": str, "b": str}) == {**value, "a": ["1", "[2]", "{'a': [3]}"]}


def test_damage_is_what_the_parser_of_python_finds() -> None:
    text = json.dumps({"a": [1, [2, 3], {"x": "y"}], "b": {"a": [4]}, "c": "\u00e9"})
    rng = np.random.default_rng(0)
    for _ in range(3000):
        position, inserted = rng.integers(len(text)), rng.choice([*'{}[],:"\\ 1e\n', ""])
        damaged = text[:position] + inserted + text[position + 1 :]
        try:
            expected = json.loads(damaged)
        except json.JSONDecodeError:
            with pytest.raises(json.JSONDecodeError):
                parse_sections(damaged, {"a": lambda entry: entry})
        else:
            assert parse_sections(damaged, {"a": lambda entry: entry}) == expected


def test_the_place_of_the_damage_is_named() -> None:
    with pytest.raises(json.JSONDecodeError, match=r"Expecting ',' delimiter: line 2 column 4 \(char 9\)"):
        parse_sections('{"a":\n[1 2]}', {"a": str})
