"""Reading damaged files: what may come out, and how a file that breaks a reader is found and made small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.mutations import damaged
from tests.time_limit import time_limit
from util.errors import UserError

_LONGEST = 60  # seconds that a reader may take


class Reader(NamedTuple):
    """A reader, sound files for it, and tokens of their format.

    ``read`` asserts what is right about what it has read. ``name`` is that of the file to read.
    """

    name: str
    read: Callable[[Path], object]
    seeds: Sequence[bytes]
    tokens: Sequence[bytes] = ()


def read_one(reader: Reader, content: bytes, folder: Path) -> None:
    """Read a file of this content in ``folder``; raises what the reader raises, but for a ``UserError`` of one line."""
    path = folder / reader.name
    path.write_bytes(content)
    with time_limit(_LONGEST):
        try:
            reader.read(path)
        except UserError as error:
            assert len(str(error).splitlines()) == 1, f"not one line: {error}"


def find_failure(reader: Reader, folder: Path, *, examples: int, number: int = 0) -> tuple[bytes, BaseException] | None:
    """The smallest damaged file found that breaks ``reader``, and what it raised; None when none does.

    Tries ``examples`` files, others for each ``number``. The file that is read last stays in ``folder``: there it is
    found when a reader ends the process.
    """
    last = b""

    def check(content: bytes) -> None:
        nonlocal last
        last = content
        read_one(reader, content, folder)

    options = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    try:
        seed(number)(options(given(damaged(reader.seeds, reader.tokens))(check)))()
    except Exception as error:  # hypothesis raises what the smallest example raised, and reads that last
        return last, error
    return None
