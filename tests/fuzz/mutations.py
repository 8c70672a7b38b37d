"""Damaged files: sound ones with a few edits, as hypothesis draws and shrinks them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

from hypothesis import strategies
from hypothesis.strategies import SearchStrategy

# What breaks parsers: ends, signs, numbers at the limits of their types, names of nothing.
_TOKENS = (b"", b"\0", b"\xff", b"\n", b" ", b"-1", b"0", b"1e999", b"NaN", b"null", b"[]", b"{}", b'""')
_NUMBERS = tuple(
    number.to_bytes(size, order)
    for number, size in ((0, 4), (1, 4), (2**16 - 1, 2), (2**31 - 1, 4), (2**31, 4), (2**32 - 1, 4), (2**63, 8))
    for order in ("big", "little")
)
_PLACES = 1 << 16
_LONGEST = 64  # bytes that an edit removes, replaces or repeats, unless it cuts the file
_MANY = 5000  # repetitions


class Edit(NamedTuple):
    """A change at ``place`` (0 start, 65536 end of the file); ``length`` bytes are concerned."""

    kind: str
    place: int
    length: int
    payload: bytes

    def apply(self, content: bytes) -> bytes:
        """``content`` with the change."""
        start = self.place * len(content) // _PLACES
        before, concerned, after = content[:start], content[start : start + self.length], content[start + self.length :]
        match self.kind:
            case "insert":
                return before + self.payload + concerned + after
            case "replace":
                return before + self.payload + after
            case "overwrite":
                return before + self.payload + content[start + len(self.payload) :]
            case "flip a bit" if concerned:
                return before + bytes([concerned[0] ^ 1 << self.length % 8]) + concerned[1:] + after
            case "repeat":
                return before + concerned * 2 + after
            case "repeat often":
                return before + concerned[:2] * _MANY + after
            case "cut":
                return before
        return content


def damaged(seeds: Sequence[bytes], tokens: Sequence[bytes] = ()) -> SearchStrategy[bytes]:
    """One of the sound files ``seeds`` with up to five edits, some of which insert ``tokens`` of the format."""
    kinds = ("flip a bit", "replace", "insert", "overwrite", "repeat", "cut", "repeat often")
    payloads = strategies.one_of(strategies.sampled_from([*_TOKENS, *_NUMBERS, *tokens]), strategies.binary(max_size=8))
    edits = strategies.builds(
        Edit,
        strategies.sampled_from(kinds),
        strategies.integers(0, _PLACES),
        strategies.integers(0, _LONGEST),
        payloads,
    )
    return strategies.builds(
        lambda seed, changes: reduce(lambda content, edit: edit.apply(content), changes, seed),
        strategies.sampled_from(list(seeds)),
        strategies.lists(edits, min_size=1, max_size=5),
    )
