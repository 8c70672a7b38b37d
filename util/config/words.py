"""The words of a command line that set keys of the configuration: ``TRAIN.epochs=3``, ``epochs=3``, ``epochs 3``."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from util.config.published_keys import ALIASES, DISTRIBUTED, LAYERS, WITHOUT_EFFECT
from util.config.schema import FIELDS
from util.config.strict_yaml import is_text, parse_yaml
from util.errors import shown

WEIGHTS_FROM_TIMM = Path("timm")
_MOST_LETTERS = 4096
_NAMES = (*FIELDS, *ALIASES, LAYERS, *(name for name in WITHOUT_EFFECT if "." in name), *DISTRIBUTED)


def read_words(words: Sequence[str]) -> tuple[list[tuple[str, Any]], list[str]]:
    """The settings, as ``SECTION.key`` and value, and what is wrong with the words that set nothing."""
    settings: list[tuple[str, Any]] = []
    problems: list[str] = []
    remaining = list(words)
    while remaining:
        key, separator, text = remaining.pop(0).partition("=")
        name = _full_name(key)
        if name is None:
            problems.append(f"unknown key {shown(key)}{suggestion(key)}")
        if not separator:
            if not remaining or "=" in remaining[0]:
                problems.append(f"{shown(key)} has no value; write {shown(key)[1:-1]}=VALUE")
                continue
            text = remaining.pop(0)
        if len(text) > _MOST_LETTERS or not is_text(text):
            problems.append(f"{shown(key)} is {shown(text)}: a text of at most {_MOST_LETTERS:,} letters expected")
        elif name is not None:
            settings.append((name, _parse(name, text)))
    return settings, problems


def suggestion(key: str) -> str:
    """A remark that names the key which ``key`` is most likely meant to be; empty where none is alike."""
    names = {name.split(".")[1]: name for name in FIELDS}
    close = difflib.get_close_matches(key.split(".")[-1], names, n=1)
    return f" (did you mean {names[close[0]]}?)" if close else ""


def _full_name(key: str) -> str | None:
    """``TRAIN.epochs`` for ``TRAIN.epochs`` or ``epochs``; None when no section has it."""
    if key.startswith("Distributed."):
        return key
    return next((name for name in _NAMES if key in (name, name.split(".")[1])), None)


def _parse(name: str, text: str) -> Any:
    """The value of a word: a path as typed, anything else as ``util.config.strict_yaml`` reads it."""
    field = FIELDS.get(ALIASES.get(name, name))
    if field is not None and "Path" in str(field.annotation):
        if text.lower() in ("", "null", "none"):
            return None
        path = Path(os.path.expanduser(text))
        return path if path == WEIGHTS_FROM_TIMM else path.absolute()
    try:
        return parse_yaml(text)
    except ValueError:
        return text
