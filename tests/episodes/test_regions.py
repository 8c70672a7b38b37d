"""Neighbours of regions against a naive search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from episodes.regions import RegionTable
from util.errors import UserError


def make_table(regions: int, photographs: int, groups: int) -> RegionTable:
    draw = np.random.default_rng(regions)
    embedding = draw.standard_normal((regions, 12))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    image, group = (np.sort(draw.integers(count, size=regions)).astype(np.int32) for count in (photographs, groups))
    return RegionTable(
        image=image,
        region=np.arange(regions, dtype=np.int32),
        group=draw.permutation(group),
        area=np.full(regions, 2048, dtype=np.int32),
        embedding=embedding.astype(np.float16),
    )


def naive_neighbours(table: RegionTable, row: int, limit: int) -> list[int]:
    """SPEC section 11.9, one region at a time."""
    members = [other for other in range(len(table)) if table.group[other] == table.group[row]]
    if limit == 0:
        limit = len(members) if len(members) < 20 else min(len(members) // 2, 5000)
    vectors = table.embedding.astype(np.float64)
    members.sort(key=lambda other: -float(vectors[other] @ vectors[row]))
    found: list[int] = []
    photographs = {int(table.image[row])}
    for other in members:
        if int(table.image[other]) not in photographs:
            photographs.add(int(table.image[other]))
            found.append(other)
    return found[:limit]


@pytest.mark.parametrize("limit", [0, 1, 7, 500])
@pytest.mark.parametrize(("regions", "photographs", "groups"), [(160, 60, 1), (90, 40, 3), (40, 30, 8)])
def test_neighbours_equal_the_naive_search(regions: int, photographs: int, groups: int, limit: int) -> None:
    table = make_table(regions, photographs, groups)
    counts = table.neighbour_counts(limit)
    for row in range(0, regions, 3):
        expected = naive_neighbours(table, row, limit)
        assert table.neighbours(row, limit).tolist() == expected
        assert counts[row] == len(expected)


def test_a_region_alone_in_its_group_has_no_neighbours() -> None:
    """The published code looped for ever when it drew a support for such a region."""
    table = make_table(5, 5, 1)
    table.group[2] = 9
    assert len(table.neighbours(2)) == 0
    assert table.neighbour_counts()[2] == 0


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"regions\.safetensors: file not found; make the pseudo masks again"):
        RegionTable.load(tmp_path)
    (tmp_path / "regions.safetensors").write_bytes(b"half a file")
    with pytest.raises(UserError, match=r"regions\.safetensors: not a readable region file"):
        RegionTable.load(tmp_path)
