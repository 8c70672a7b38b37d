"""YAML whose text means one thing, and which cannot name code, refer to itself or be endless.

Numbers are decimal, ``true`` and ``false`` the only truth values, and everything else is text: ``010`` is 10, whereas
``0x10``, ``1_000``, ``1:30``, ``.inf``, ``yes``, ``off`` and ``2001-01-01`` are words.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from util.errors import UserError

_MOST_BYTES = 100_000
_MOST_LEVELS = 20
_MOST_LETTERS = 300  # of an error message
_TYPE = "tag:yaml.org,2002:"
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def read_yaml(path: Path) -> Any:
    """What a YAML file holds. Raises ``UserError`` for a file that is missing, too large or not such YAML."""
    try:
        if not path.exists():
            raise UserError(f"{path}: configuration file not found")
        if not path.is_file():
            raise UserError(f"{path}: not a file; a YAML file is expected here")
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > _MOST_BYTES:
        raise UserError(f"{path}: larger than {_MOST_BYTES:,} bytes, a short YAML file is expected here")
    try:
        return parse_yaml(content)
    except ValueError as error:
        raise UserError(f"{path}: not valid YAML ({error})") from None


def parse_yaml(text: str | bytes) -> Any:
    """The value of a YAML text. Raises ``ValueError``, in one line, for text that is not such YAML."""
    try:
        return yaml.load(text, _StrictLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())[:_MOST_LETTERS]) from None


def is_text(text: str) -> bool:
    """Whether ``text`` can be written to a file and be a path: it holds neither NUL nor half a character."""
    return _NO_TEXT.search(text) is None


class _StrictLoader(yaml.SafeLoader):
    """Without tags, anchors, aliases, deep nesting, keys that are numbers and keys that occur twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - None: whatever the first letter is
        None: [
            (f"{_TYPE}null", re.compile(r"(?:~|null|Null|NULL|)\Z")),
            (f"{_TYPE}bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")),
            (f"{_TYPE}int", re.compile(r"[-+]?[0-9]{1,30}\Z")),
            (f"{_TYPE}float", re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")),
        ]
    }
    _level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None or getattr(event, "tag", None) is not None:
            raise ComposerError(None, None, "tags, anchors and aliases are not read", event.start_mark)
        if self._level == _MOST_LEVELS:
            raise ComposerError(None, None, f"nested more than {_MOST_LEVELS} levels deep", event.start_mark)
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        return node

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if not is_text(value):
            raise ConstructorError(None, None, "a character that is no text", node.start_mark)
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key, _ in node.value:
            if key.tag != f"{_TYPE}str":
                raise ConstructorError(None, None, "keys must be words", key.start_mark)
            if key.value in names:
                raise ConstructorError(None, None, f"the key {key.value[:40]!r} occurs twice", key.start_mark)
            names.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_decimal(self, node: Any) -> int:
        return int(self.construct_scalar(node))


_StrictLoader.add_constructor(f"{_TYPE}int", _StrictLoader.construct_decimal)
