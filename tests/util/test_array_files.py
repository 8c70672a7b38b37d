"""util.array_files: arrays come back, and no others do."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from util import array_files, files
from util.array_files import read_arrays, read_left_over, write_array, write_tensors
from util.errors import UserError

ARRAYS: dict[str, np.ndarray] = {"area": np.arange(5, dtype=np.int32), "features": np.ones((5, 2), dtype=np.float16)}
KINDS = {"area": ("int32", 1), "features": ("float16", 2)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_tensors(tmp_path / "table.safetensors", ARRAYS)
    return tmp_path / "table.safetensors"


def test_arrays_come_back(path: Path) -> None:
    read = read_arrays(path, KINDS, remedy="make it again")
    assert all(np.array_equal(read[name], array) and read[name].dtype == array.dtype for name, array in ARRAYS.items())
    left_over = read_left_over(path, KINDS)
    assert left_over is not None and np.array_equal(left_over["area"], ARRAYS["area"])


def test_a_file_without_a_digest_is_read_but_not_continued(path: Path, messages: list[str]) -> None:
    """The first release wrote none."""
    save_file(ARRAYS, path)
    assert np.array_equal(read_arrays(path, KINDS, remedy="")["area"], ARRAYS["area"])
    assert read_left_over(path, KINDS) is None
    assert messages == [f"{path}: not a file as it was written; it is made again"]


def _flip_a_bit(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))


def _save(**changes: np.ndarray) -> Callable[[Path], None]:
    return lambda path: save_file({**load_file(path), **changes}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_flip_a_bit, "not a file as it was written"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"not a readable file of area, features \(.*\)"),
        (lambda path: path.write_bytes(b""), "not a readable file of area, features"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"area", b"aera")), "not a readable file of area"),
        (_save(area=ARRAYS["area"].astype(np.int64)), "area is int64 of 1 axes there, int32 of 1 expected"),
        (_save(features=ARRAYS["features"][0]), "features is float16 of 1 axes there, float16 of 2 expected"),
    ],
)
def test_a_damaged_file_is_a_user_error_and_made_again(
    path: Path, messages: list[str], damage: Callable[[Path], object], message: str
) -> None:
    damage(path)
    with pytest.raises(UserError, match=rf"table\.safetensors: {message}[^\n]*; delete it$"):
        read_arrays(path, KINDS, remedy="delete it")
    assert read_left_over(path, KINDS) is None
    assert [line.endswith("; it is made again") for line in messages] == [True]


def test_no_file_is_no_left_over(tmp_path: Path, messages: list[str]) -> None:
    assert read_left_over(tmp_path / "none.safetensors", KINDS) is None
    assert not messages
    with pytest.raises(UserError, match=r"none\.safetensors: file not found; make it"):
        read_arrays(tmp_path / "none.safetensors", KINDS, remedy="make it")


def test_an_array_is_written_from_parts(tmp_path: Path) -> None:
    parts = [np.ones((2, 3)), np.zeros((1, 3))]
    write_array(tmp_path / "a.npy", parts, dtype=np.float16, shape=(3, 3))
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.concatenate(parts).astype(np.float16))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors' own writer raises another kind of error, which no command explains."""
    path = tmp_path / "table.safetensors"
    temporary = path.with_name(f".{path.name}.4711")
    temporary.symlink_to("/dev/full")
    monkeypatch.setattr(files.os, "getpid", lambda: 4711)
    with pytest.raises(OSError) as full:
        write_tensors(path, {"a": np.zeros(100_000)})
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(path))
    temporary.symlink_to("/dev/full")
    with pytest.raises(OSError) as full:
        array_files.write_array(path, [np.zeros(100_000)], dtype=float, shape=(100_000,))
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(path))
    assert not list(tmp_path.iterdir())
