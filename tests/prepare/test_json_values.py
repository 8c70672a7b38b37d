"""Values in the JSONs of annotation tools: what is a whole number, a name, a size."""

from __future__ import annotations

import pytest

from prepare.json_values import MOST_PIXELS, checked_name, checked_size, checked_value, whole
from util.errors import UserError


@pytest.mark.parametrize(("value", "number"), [(48, 48), (48.0, 48), (-3.0, -3), (0, 0), (2**63 - 1, 2**63 - 1)])
def test_whole_numbers(value: float, number: int) -> None:
    assert whole(value) == number and isinstance(whole(value), int)


@pytest.mark.parametrize("value", [0.5, True, None, "48", [48], float("inf"), float("nan"), 1e30, 2**63, -(10**400)])
def test_what_is_no_whole_number(value: object) -> None:
    assert whole(value) is None
    with pytest.raises(UserError, match=r"^a\.json: 'x' is missing or not a whole number; mend it$"):
        checked_value({"x": value}, "x", int, "a.json", "mend it")


def test_names_may_be_numbers() -> None:
    assert [checked_name({"x": value}, "x", "", "") for value in ("cat", 3, 3.0, "3.0")] == ["cat", "3", "3", "3.0"]
    for value in (None, True, 0.5, ["cat"]):
        with pytest.raises(UserError, match="'x' is missing or not a string"):
            checked_name({"x": value}, "x", "a.json", "mend it")


@pytest.mark.parametrize("sides", [(0, 5), (5, -1), (10**9, 10**9), (MOST_PIXELS, 2)])
def test_sizes_of_no_image(sides: tuple[int, int]) -> None:
    assert checked_size({"h": 48.0, "w": MOST_PIXELS // 48}, "h", "w", "", "") == (48, MOST_PIXELS // 48)
    with pytest.raises(UserError, match=rf"^a\.json: no image has 'h' {sides[0]} and 'w' {sides[1]}; mend it$"):
        checked_size({"h": sides[0], "w": sides[1]}, "h", "w", "a.json", "mend it")
