"""Whether lists are exactly those that papers report on."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from util.files import digest_lines


class Benchmark(NamedTuple):
    """How many images a list of the benchmark has, and the SHA-256 of their sorted ids, one a line, if it is known."""

    images: int
    digest: str | None

    def has(self, ids: Collection[str]) -> bool:
        """Whether these are its ids; where the digest is not known, as many are taken for them."""
        return len(ids) == self.images and self.digest in (None, digest_lines(sorted(ids)))

    def compare(self, ids: Collection[str]) -> str:
        """How many ids there are, and whether they are the benchmark's, in words."""
        count, difference = f"{len(ids):,} images", len(ids) - self.images
        if difference:
            more = "more" if difference > 0 else "fewer"
            return f"{count}, {abs(difference):,} {more} than the benchmark's {self.images:,}"
        if self.digest is None:
            return f"{count}, as many as the benchmark's"
        if self.has(ids):
            return f"{count}, exactly the benchmark's"
        return f"{count}, as many as the benchmark's, but others (SHA-256 {digest_lines(sorted(ids))})"
