"""Parsing a JSON object whose large lists are made compact entry by entry, so that they are never whole in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_BLANKS = re.compile(r"[ \t\n\r]*")


def parse_sections(text: str, convert: Mapping[str, Callable[[Any], Any]]) -> Any:
    """The value of a JSON text; in an object, each entry of the lists that ``convert`` names is converted by it.

    Raises what ``json.loads`` raises, and what the functions of ``convert`` raise.
    """
    cursor = _Cursor(text)
    if cursor.accept("{"):
        value: Any = dict(_section(cursor, convert) for _ in cursor.entries("}"))
    else:
        value = cursor.value()
    cursor.end()
    return value


def _section(cursor: _Cursor, convert: Mapping[str, Callable[[Any], Any]]) -> tuple[str, Any]:
    name = cursor.name()
    if name in convert and cursor.accept("["):
        return name, [convert[name](cursor.value()) for _ in cursor.entries("]")]
    return name, cursor.value()


class _Cursor:
    """A place in a JSON text, which moves on with all that is read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._decoder = json.JSONDecoder()

    def value(self) -> Any:
        """The value that begins here."""
        self._skip_blanks()
        value, self._position = self._decoder.raw_decode(self._text, self._position)
        return value

    def name(self) -> str:
        """The name that begins here, and the colon behind it."""
        self._skip_blanks()
        if not self._text.startswith('"', self._position):
            raise self._error("Expecting property name enclosed in double quotes")
        name = self.value()
        if not self.accept(":"):
            raise self._error("Expecting ':' delimiter")
        return str(name)

    def accept(self, mark: str) -> bool:
        """Whether the character ``mark`` stands here, which is passed."""
        self._skip_blanks()
        found = self._text.startswith(mark, self._position)
        self._position += found
        return found

    def entries(self, closing: str) -> Iterator[None]:
        """Stop before each entry of the list or object that has just been entered; ``closing`` ends it."""
        if self.accept(closing):
            return
        yield
        while not self.accept(closing):
            if not self.accept(","):
                raise self._error("Expecting ',' delimiter")
            yield

    def end(self) -> None:
        """Check that nothing stands here any more."""
        self._skip_blanks()
        if self._position < len(self._text):
            raise self._error("Extra data")

    def _skip_blanks(self) -> None:
        blanks = _BLANKS.match(self._text, self._position)
        self._position = blanks.end() if blanks else self._position

    def _error(self, message: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(message, self._text, self._position)
