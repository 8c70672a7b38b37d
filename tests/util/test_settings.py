"""Differences are found at any depth and named by their whole key."""

from util.settings import differences


def test_only_asked_keys_count_and_each_difference_is_named() -> None:
    there = {"a": 1, "b": {"c": 2, "d": [1, 2]}, "version": 7}
    assert differences(there, {"a": 1, "b": {"d": [1, 2]}}) == []
    assert differences(there, {"b": {"c": 3, "e": None}}) == [
        "b.c is 2 there, 3 asked",
        "b.e is absent there, None asked",
    ]
