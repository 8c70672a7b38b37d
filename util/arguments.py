"""Command lines: a parser whose errors are ``UserError``, and checked number types."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import NoReturn

from util.errors import UserError, shown

_MOST_LETTERS = 300  # of an error message
_WHOLE = re.compile(r"[-+]?[0-9]{1,30}")
_DECIMAL = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that reports a mistake in one line instead of printing its usage.

    A positional argument with ``nargs="*"`` needs a ``default``: without one, argparse lists it among those required.
    """

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{' '.join(message.split())[:_MOST_LETTERS]}; see {self.prog} --help")


def whole_number(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """An argparse ``type`` for whole numbers from ``minimum`` to ``maximum``, both included, in decimal digits."""
    expected = f"a whole number of at least {minimum}" if maximum is None else f"a number from {minimum} to {maximum}"

    def convert(text: str) -> int:
        number = int(text) if _WHOLE.fullmatch(text) else None
        if number is None or number < minimum or (maximum is not None and number > maximum):
            raise argparse.ArgumentTypeError(f"{shown(text if number is None else number)} is not {expected}")
        return number

    return convert


def number_between(lower: float, upper: float, example: str) -> Callable[[str], float]:
    """An argparse ``type`` for numbers between two bounds, both excluded; messages give the ``example``."""

    def convert(text: str) -> float:
        number = float(text) if _DECIMAL.fullmatch(text) else lower
        if not lower < number < upper:
            raise argparse.ArgumentTypeError(
                f"{shown(text)} is not a number between {lower} and {upper}, like {example}"
            )
        return number

    return convert
