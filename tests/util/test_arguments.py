"""util.arguments: numbers are decimal digits, and mistakes are short lines."""

from __future__ import annotations

import pytest

from util.arguments import Parser, number_between, whole_number
from util.errors import UserError


def parse(kind: object, text: str) -> object:
    parser = Parser(prog="command")
    parser.add_argument("number", type=kind)  # type: ignore[arg-type]
    return parser.parse_args(["--", text]).number


@pytest.mark.parametrize(("text", "number"), [("5", 5), ("010", 10), ("+7", 7), ("9" * 18, 10**18 - 1)])
def test_whole_numbers(text: str, number: int) -> None:
    assert parse(whole_number(1), text) == number


@pytest.mark.parametrize(("text", "number"), [("5", 5.0), (".5", 0.5), ("1e-2", 0.01), ("019.", 19.0)])
def test_decimal_numbers(text: str, number: float) -> None:
    assert parse(number_between(0, 20, "0.5"), text) == number


@pytest.mark.parametrize(
    "text", ["", " 5", "5 ", "1_0", "١٢", "²", "0x10", "1.0.0", "nan", "inf", "-inf", "9" * 5000, "a" * 5000, "1\n2"]
)
def test_everything_else_is_refused_in_a_short_line(text: str) -> None:
    for kind in (whole_number(1), whole_number(1, 8), number_between(0, 8, "0.5")):
        with pytest.raises(
            UserError, match=r"^argument number: .* is not a (whole )?number .*; see command --help$"
        ) as caught:
            parse(kind, text)
        assert len(str(caught.value)) < 300


def test_bounds() -> None:
    assert [parse(whole_number(2, 3), text) for text in "23"] == [2, 3]
    for text in "14":
        with pytest.raises(UserError, match=f": {text} is not a number from 2 to 3"):
            parse(whole_number(2, 3), text)
        with pytest.raises(UserError, match=f": '{text}' is not a number between 1 and 4, like 2"):
            parse(number_between(1, 4, "2"), text)


def test_a_choice_of_5000_letters_is_a_short_line() -> None:
    parser = Parser(prog="command")
    parser.add_argument("word", choices=("a", "b"))
    with pytest.raises(UserError, match="invalid choice") as caught:
        parser.parse_args(["x\n" * 5000])
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
