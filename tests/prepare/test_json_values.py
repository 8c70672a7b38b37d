"""Values in the JSONs of annotation tools: what is a whole number, a name, a size."""

from __future__ import annotations

import numpy as np
import pytest

from prepare.json_values import check_outline, checked_name, checked_size, checked_value, whole
from util.errors import UserError
from util.images.image_files import PIXEL_LIMIT


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


@pytest.mark.parametrize("sides", [(0, 5), (5, -1), (10**9, 10**9), (PIXEL_LIMIT, 2)])
def test_sizes_of_no_image(sides: tuple[int, int]) -> None:
    assert checked_size({"h": 48.0, "w": PIXEL_LIMIT // 48}, "h", "w", "", "") == (48, PIXEL_LIMIT // 48)
    with pytest.raises(UserError, match=rf"^a\.json: no image has 'h' {sides[0]} and 'w' {sides[1]}; mend it$"):
        checked_size({"h": sides[0], "w": sides[1]}, "h", "w", "a.json", "mend it")


def test_outlines_that_would_be_followed_for_minutes() -> None:
    edge = [0, 0, 0, 1e6]
    # Ten edges of a million pixels; corners a pixel apart.
    for points in (edge * 5, np.arange(2e5) % 1000, [], [1.0, 2.0]):
        check_outline(np.array(points, dtype=np.float64), "a.json", "mend it")
    with pytest.raises(UserError, match=r"^a\.json: an outline is longer than 10,000,000 pixels; mend it$"):
        check_outline(np.array([*edge * 5, 0, 0, 1, 1]), "a.json", "mend it")
    for point in (1e6 + 1, -1e7, float("nan"), float("inf")):
        with pytest.raises(UserError, match=r"^a\.json: a point is too far outside the image; mend it$"):
            check_outline(np.array([0, 0, 5, point]), "a.json", "mend it")
