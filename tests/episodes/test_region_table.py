"""Neighbours of regions against a naive search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from episodes.region_table import RegionTable
from tests.episodes.region_tables import make_table, naive_neighbours
from util.errors import UserError


@pytest.mark.parametrize("limit", [0, 1, 7, 500])
@pytest.mark.parametrize(("regions", "images", "groups"), [(160, 60, 1), (90, 40, 3), (40, 30, 8)])
def test_neighbours_equal_the_naive_search(tmp_path: Path, regions: int, images: int, groups: int, limit: int) -> None:
    table = make_table(tmp_path, regions, images, groups)
    counts = table.neighbour_counts(limit)
    for row in range(0, regions, 3):
        expected = naive_neighbours(table, row, limit)
        assert table.neighbours(row, limit).tolist() == expected
        assert counts[row] == len(expected)


def test_neighbours_that_were_found_before_are_read_and_more_are_searched_for(tmp_path: Path) -> None:
    searched = make_table(tmp_path, 40, 30, 2).neighbours(0, 3).tolist()
    stored = np.full((40, 2), -1, dtype=np.int32)
    stored[:, 0] = 39
    np.save(tmp_path / "neighbours.npy", stored)
    table = RegionTable.load(tmp_path)
    assert table.neighbours(0, 1).tolist() == table.neighbours(0, 2).tolist() == [39]
    assert table.neighbours(0, 3).tolist() == searched


def test_a_region_alone_in_its_group_has_no_neighbours(tmp_path: Path) -> None:
    """The published code looped for ever when it drew a support for such a region."""
    table = make_table(tmp_path, 5, 5, 1)
    table.group[2] = 9
    assert len(table.neighbours(2)) == 0
    assert table.neighbour_counts()[2] == 0


@pytest.mark.parametrize("name", ["regions.safetensors", "embeddings.npy", "neighbours.npy"])
def test_a_missing_or_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    make_table(tmp_path, 5, 5, 1)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: file not found; make the pseudo masks again"):
        RegionTable.load(tmp_path)
    for damage in (b"half a file", b""):
        (tmp_path / name).write_bytes(damage)
        with pytest.raises(UserError, match=rf"{name}: not a readable .*; make the pseudo masks again"):
            RegionTable.load(tmp_path)


def test_files_of_other_regions_are_refused(tmp_path: Path) -> None:
    make_table(tmp_path, 5, 5, 1)
    np.save(tmp_path / "embeddings.npy", np.ones((4, 12), dtype=np.float16))
    with pytest.raises(UserError, match=r"embeddings\.npy: 4 rows, regions\.safetensors has 5; make the pseudo masks"):
        RegionTable.load(tmp_path)
