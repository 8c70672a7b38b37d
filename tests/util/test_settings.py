"""Differences are found at any depth and named by their whole key."""

from pathlib import Path

import pytest

from util.errors import UserError
from util.settings import differences, require_same


def test_only_expected_keys_count_and_each_difference_is_named() -> None:
    actual = {"a": 1, "b": {"c": 2, "d": [1, 2]}, "version": 7}
    assert differences(actual, {"a": 1, "b": {"d": [1, 2]}}) == []
    assert differences(actual, {"b": {"c": 3, "e": None}}) == [
        "b.c is 2 there, 3 expected",
        "b.e is absent there, None expected",
    ]


def test_other_settings_are_refused_with_advice() -> None:
    require_same(Path("masks"), {"a": 1, "b": 2}, {"a": 1}, advice="delete it")
    message = (
        r"^masks: made with other settings \(a is 1 there, 2 expected; c is absent there, 3 expected\); delete it$"
    )
    with pytest.raises(UserError, match=message):
        require_same(Path("masks"), {"a": 1}, {"a": 2, "c": 3}, advice="delete it")
