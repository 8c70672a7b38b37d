"""Neighbours of regions against a naive search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

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
    np.save(tmp_path / "neighbours.npy", np.full((40, 2), 39, dtype=np.int32))
    table = RegionTable.load(tmp_path)
    assert (table.neighbours(0, 1).tolist(), table.neighbours(0, 2).tolist()) == ([39], [39, 39])
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
    with pytest.raises(UserError, match=rf"{name}: file not found; delete the folder and make it again with"):
        RegionTable.load(tmp_path)
    for damage in (b"half a file", b""):
        (tmp_path / name).write_bytes(damage)
        with pytest.raises(UserError, match=rf"{name}: not a readable .*; delete the folder"):
            RegionTable.load(tmp_path)


def _change(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """What damages the array ``name`` of a folder: a column of regions.safetensors, or a file."""

    def damage(folder: Path) -> None:
        if name.endswith(".npy"):
            np.save(folder / name, change(np.load(folder / name)))
        else:
            columns = load_file(folder / "regions.safetensors")
            save_file({**columns, name: change(columns[name])}, folder / "regions.safetensors")

    return damage


def _set(value: int) -> Callable[[np.ndarray], np.ndarray]:
    """The second row becomes ``value``."""
    return lambda array: np.concatenate([array[:1], np.full_like(array[:1], value), array[2:]])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("image", _set(5), r"regions\.safetensors: image is 5 there, 0 to 4 expected"),
        ("image", _set(-1), r"image is -1 there, 0 to 4 expected"),
        ("region", _set(255), r"region is 255 there, 0 to 254 expected"),
        ("group", _set(2**31 - 1), r"group is 2147483647 there, 0 to 254 expected"),
        ("area", _set(-3), r"area is -3 there, 1 to 2147483647 expected"),
        ("area", lambda area: area[1:], r"area has 4 rows, 5 regions expected"),
        ("area", lambda area: area.astype(np.float32), r"area is float32 of 1 axes there, int32 of 1 expected"),
        ("region", lambda region: region[:, None], r"region is int32 of 2 axes there, int32 of 1 expected"),
        ("embeddings.npy", lambda array: array[1:], r"embeddings\.npy: it has 4 rows, 5 regions expected"),
        ("embeddings.npy", lambda array: array[0], r"embeddings\.npy: float16 of 1 axes is there, float16 of 2 expect"),
        ("embeddings.npy", lambda array: array.astype(float), r"embeddings\.npy: float64 of 2 axes is there, float16"),
        ("neighbours.npy", _set(5), r"neighbours\.npy: a neighbour is 5 there, -1 to 4 expected"),
        ("neighbours.npy", _set(-2), r"neighbours\.npy: a neighbour is -2 there"),
        ("neighbours.npy", _set(-1), r"neighbours\.npy: neighbours of region 1 are missing"),
        ("neighbours.npy", lambda array: array[1:], r"neighbours\.npy: it has 4 rows, 5 regions expected"),
    ],
)
def test_what_no_table_can_hold_is_refused(
    tmp_path: Path, name: str, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    make_table(tmp_path, 5, 5, 1)
    _change("image", lambda image: np.arange(5, dtype=np.int32))(tmp_path)
    np.save(tmp_path / "neighbours.npy", [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]])
    _change("neighbours.npy", lambda array: array.astype(np.int32))(tmp_path)
    RegionTable.load(tmp_path)
    _change(name, change)(tmp_path)
    with pytest.raises(
        UserError, match=rf"^[^\n]*{message}[^\n]*; delete the folder and make it again with `bash [^\n]*$"
    ):
        RegionTable.load(tmp_path)


def test_a_table_without_regions_is_refused(tmp_path: Path) -> None:
    make_table(tmp_path, 5, 5, 1)
    for name in ("image", "region", "group", "area"):
        _change(name, lambda column: column[:0])(tmp_path)
    with pytest.raises(UserError, match=r"regions\.safetensors: it holds no region"):
        RegionTable.load(tmp_path)


def test_other_images_are_refused(tmp_path: Path) -> None:
    """A line that occurs twice would pair an image with the mask of another."""
    make_table(tmp_path, 5, 5, 1)
    lines = (tmp_path / "images.txt").read_text().splitlines()
    for text in ("\n".join([*lines[:-1], lines[0]]), "", "\ud800"):
        (tmp_path / "images.txt").write_bytes(text.encode(errors="surrogatepass"))
        with pytest.raises(
            UserError, match=r"images\.txt: not (the images of manifest\.json|a text file)[^\n]*; delete"
        ):
            RegionTable.load(tmp_path)
