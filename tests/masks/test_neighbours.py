"""Neighbours found for all regions at once, against the naive search for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from masks import neighbours
from masks.neighbours import nearest_neighbours
from tests.episodes.region_tables import make_table, naive_neighbours

_CPU = torch.device("cpu")


@pytest.mark.parametrize("limit", [1, 7, 50])
@pytest.mark.parametrize(("regions", "images", "groups"), [(160, 60, 1), (90, 40, 3), (40, 30, 8)])
def test_they_equal_the_naive_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, regions: int, images: int, groups: int, limit: int
) -> None:
    monkeypatch.setattr(neighbours, "_QUERIES", 16)
    monkeypatch.setattr(neighbours, "_OTHERS", 24)
    monkeypatch.setattr(neighbours, "_EXACT", 5)
    table = make_table(tmp_path, regions, images, groups)
    embedding = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    nearest = nearest_neighbours(table.image, table.group, embedding, limit=limit, device=_CPU)
    assert (nearest.dtype, nearest.shape) == (np.int32, (regions, limit))
    for row in range(regions):
        expected = naive_neighbours(table, row, limit)
        assert nearest[row].tolist() == expected + [-1] * (limit - len(expected))


def test_of_equal_regions_the_first_rows_come_first() -> None:
    image, group = np.arange(40, dtype=np.int32), np.zeros(40, dtype=np.int32)
    embedding = np.ones((40, 1), dtype=np.float16)
    embedding[5:] = -1  # the others of the first five are the first five
    nearest = nearest_neighbours(image, group, embedding, limit=3, device=_CPU)
    assert nearest[:2].tolist() == [[1, 2, 3], [0, 2, 3]]


def test_none_are_asked_for() -> None:
    rows = np.zeros(4, dtype=np.int32)
    assert nearest_neighbours(rows, rows, np.ones((4, 2), dtype=np.float16), limit=0, device=_CPU).shape == (4, 0)


@pytest.mark.gpu
def test_a_gpu_finds_the_same(tmp_path: Path) -> None:
    table = make_table(tmp_path, 5000, 2000, 2)
    embedding = np.load(tmp_path / "embeddings.npy")
    on_cpu, on_gpu = (
        nearest_neighbours(table.image, table.group, embedding, limit=20, device=torch.device(name))
        for name in ("cpu", "cuda")
    )
    np.testing.assert_array_equal(on_cpu, on_gpu)
