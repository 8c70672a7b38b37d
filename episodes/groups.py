"""Rows of a table, grouped by the value they share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


class Groups:
    """The positions of each distinct value of an array (n,), in ascending order.

    ``values`` are the distinct values, ascending. All positions lie in one array, which worker processes share with the
    trainer; the memory pages of a million small arrays would be copied to each of them.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._positions = np.argsort(array, kind="stable")
        self.values, starts = np.unique(array[self._positions], return_index=True)
        self._bounds = np.append(starts, len(array))

    def __len__(self) -> int:
        """Number of values."""
        return len(self.values)

    def __getitem__(self, number: int) -> np.ndarray:
        """The positions of ``values[number]``."""
        return self._positions[self._bounds[number] : self._bounds[number + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[number] for number in range(len(self)))
