"""Positions of each value, as a naive loop finds them."""

from __future__ import annotations

import numpy as np

from episodes.groups import Groups


def test_groups_are_those_of_a_loop() -> None:
    array = np.random.default_rng(0).choice([-3, 0, 1, 7, 200], size=100)
    groups = Groups(array)
    assert groups.values.tolist() == sorted(set(array.tolist()))
    assert [positions.tolist() for positions in groups] == [
        [row for row in range(100) if array[row] == value] for value in groups.values
    ]
    assert len(groups) == 5
    assert groups[4].tolist() == np.flatnonzero(array == 200).tolist()


def test_nothing_has_no_groups() -> None:
    assert list(Groups(np.array([], dtype=np.int32))) == []
