"""Command lines: a parser whose errors are ``UserError``, and checked number types."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from util.errors import UserError


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that reports a mistake in one line instead of printing its usage.

    A positional argument with ``nargs="*"`` needs a ``default``: without one, argparse lists it among those required.
    """

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def whole_number(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """An argparse ``type`` for whole numbers from ``minimum`` to ``maximum``, both included."""
    expected = f"a whole number of at least {minimum}" if maximum is None else f"a number from {minimum} to {maximum}"

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not {expected}") from None
        if number < minimum or (maximum is not None and number > maximum):
            raise argparse.ArgumentTypeError(f"{text} is not {expected}")
        return number

    return convert


def number_between(lower: float, upper: float, example: str) -> Callable[[str], float]:
    """An argparse ``type`` for numbers between two bounds, both excluded; messages give the ``example``."""

    def convert(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = lower
        if not lower < number < upper:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number between {lower} and {upper}, like {example}")
        return number

    return convert
