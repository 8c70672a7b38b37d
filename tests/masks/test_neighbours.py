"""Neighbours found for all regions at once, against the naive search for one: by faiss, by torch, in lists."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from masks import neighbours
from masks.neighbours import Neighbours, nearest_neighbours
from tests.episodes.region_tables import make_table, naive_neighbours

_CPU = torch.device("cpu")


@pytest.fixture(params=["faiss", "torch"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setitem(sys.modules, "faiss", None)
    else:
        pytest.importorskip("faiss")
    return str(request.param)


@pytest.mark.usefixtures("library")
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
    assert (nearest.rows.dtype, nearest.rows.shape, nearest.recall) == (np.int32, (regions, limit), 1.0)
    for row in range(regions):
        expected = naive_neighbours(table, row, limit)
        assert nearest.rows[row].tolist() == expected + [-1] * (limit - len(expected))


@pytest.mark.usefixtures("library")
def test_of_equal_regions_the_first_rows_come_first() -> None:
    image, group = np.arange(40, dtype=np.int32), np.zeros(40, dtype=np.int32)
    embedding = np.ones((40, 1), dtype=np.float16)
    embedding[5:] = -1  # the others of the first five are the first five
    nearest = nearest_neighbours(image, group, embedding, limit=3, device=_CPU)
    assert nearest.rows[:2].tolist() == [[1, 2, 3], [0, 2, 3]]


@pytest.mark.usefixtures("library")
def test_an_order_that_single_precision_does_not_see() -> None:
    """The smaller part of the cosines is lost beside the larger one in 24 bits, and not in 53."""
    image, group = np.arange(6, dtype=np.int32), np.zeros(6, dtype=np.int32)
    embedding = np.zeros((6, 2), dtype=np.float16)
    embedding[:, 0] = 1
    embedding[:, 1] = np.array([2.0**-13, 0, 2, 4, 1, 3]) * 2.0**-13 * [2**13, 1, 1, 1, 1, 1]
    nearest = nearest_neighbours(image, group, embedding, limit=5, device=_CPU)
    assert nearest.rows[0].tolist() == [3, 5, 2, 4, 1]


@pytest.mark.usefixtures("library")
def test_none_are_asked_for() -> None:
    rows = np.zeros(4, dtype=np.int32)
    assert nearest_neighbours(rows, rows, np.ones((4, 2), dtype=np.float16), limit=0, device=_CPU).rows.shape == (4, 0)


def test_without_faiss_a_line_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    expected = _search(*_regions(60, spread=1.0))
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(neighbours, "_MOST_COMPARED", 10)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        found = _search(*_regions(60, spread=1.0))
    np.testing.assert_array_equal(found.rows, expected.rows)
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "neighbours of regions: torch searches for them, which takes longer than faiss"
    ]
    assert found.recall == 1.0


@pytest.mark.parametrize(("spread", "searched"), [(0.3, 8), (10.0, 64)])
def test_lists_find_almost_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, spread: float, searched: int
) -> None:
    """With clusters and without any: as many of the 89 lists are searched as the recall needs."""
    regions = _regions(2000, spread)
    expected = _search(*regions)
    _use_lists(monkeypatch, above=1999, measured=500)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        found = _search(*regions)
    hits = np.mean([np.isin(right, rows).mean() for right, rows in zip(expected.rows, found.rows, strict=True)])
    assert found.recall >= 0.95
    assert abs(hits - found.recall) < 0.01
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        f"neighbours among 2000 regions: in 89 lists, {searched} searched for each, recall {100 * found.recall:.2f} %"
    )
    _check_rows(regions, found.rows)


def test_only_large_groups_have_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _, embedding = _regions(1500, 1.0)
    group = np.repeat(np.array([4, 2], dtype=np.int32), [1000, 500])
    expected = _search(image, group, embedding)
    _use_lists(monkeypatch, above=500, measured=100)
    found = _search(image, group, embedding)
    assert (found.rows[:1000] != expected.rows[:1000]).any()
    np.testing.assert_array_equal(found.rows[1000:], expected.rows[1000:])
    assert (expected.recall, found.recall < 1) == (1.0, True)


@pytest.mark.parametrize(("limit", "recall"), [(25, 0.7), (120, 1.0)])
def test_lists_that_hold_too_few(monkeypatch: pytest.MonkeyPatch, limit: int, recall: float) -> None:
    """8 of the 40 lists hold about 80 regions: enough neighbours but few candidates; then all are compared."""
    regions = _regions(400, 0.3)
    expected = _search(*regions, limit=limit)
    _use_lists(monkeypatch, above=399, measured=400)
    monkeypatch.setattr(neighbours, "_RECALL", 0.0)
    found = _search(*regions, limit=limit)
    _check_rows(regions, found.rows)
    hits = np.mean([np.isin(right, rows).mean() for right, rows in zip(expected.rows, found.rows, strict=True)])
    assert hits == pytest.approx(found.recall)
    assert hits >= recall


@pytest.mark.parametrize("most", [399, 100_000])
def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    _use_lists(monkeypatch, above=most, measured=50)
    regions = _regions(600, 1.0)
    monkeypatch.setattr(neighbours, "_QUERIES", 100)
    results, before = [], torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(_search(*regions))
    torch.set_num_threads(before)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].rows, other.rows)
        assert results[0].recall == other.recall


@pytest.mark.gpu
def test_a_gpu_finds_the_same(tmp_path: Path) -> None:
    table = make_table(tmp_path, 5000, 2000, 2)
    embedding = np.load(tmp_path / "embeddings.npy")
    on_cpu, on_gpu = (
        nearest_neighbours(table.image, table.group, embedding, limit=20, device=torch.device(name)).rows
        for name in ("cpu", "cuda")
    )
    np.testing.assert_array_equal(on_cpu, on_gpu)


def _regions(count: int, spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``count`` regions of one group, three to an image, around 40 directions: image, group, embedding (count, 32)."""
    draw = np.random.default_rng(7)
    vectors = draw.standard_normal((40, 32))[draw.integers(40, size=count)]
    vectors += spread * draw.standard_normal((count, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    image = (np.arange(count) // 3).astype(np.int32)
    return image, np.zeros(count, dtype=np.int32), vectors.astype(np.float16)


def _use_lists(monkeypatch: pytest.MonkeyPatch, *, above: int, measured: int) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(neighbours, "_MOST_COMPARED", above)
    monkeypatch.setattr(neighbours, "_MEASURED", measured)


def _search(image: np.ndarray, group: np.ndarray, embedding: np.ndarray, limit: int = 20) -> Neighbours:
    return nearest_neighbours(image, group, embedding, limit=limit, device=_CPU)


def _check_rows(regions: tuple[np.ndarray, np.ndarray, np.ndarray], rows: np.ndarray) -> None:
    """Of other images, none twice, by falling cosine."""
    image, _, embedding = regions
    assert (rows >= 0).all()
    for row, nearest in enumerate(rows):
        images = image[nearest].tolist()
        assert len({*images, image[row]}) == len(images) + 1
        assert (np.diff(embedding[nearest].astype(np.float64) @ embedding[row].astype(np.float64)) <= 0).all()
