"""Rows of views on the disk: whole or not there, whoever is killed or writes beside."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest

from episodes.view_store import ViewShape, ViewStore, stored_bytes
from util.errors import UserError
from util.files import read_json

SHAPE = ViewShape(image=(33, 25), maps=(5, 4), mid_channels=6, high_channels=700)


def make_store(folder: Path, **settings: object) -> ViewStore:
    store = ViewStore.of(folder, SHAPE, {"version": 1, **settings})
    store.make()
    return store


def make_row(number: int) -> np.void:
    random = np.random.default_rng(number)
    mid, high = (random.standard_normal((channels, *SHAPE.maps)) for channels in (6, 700))
    return SHAPE.row(mid, high, random.choice([0, 1, 255], SHAPE.image), random.random(SHAPE.image) < 0.5)


def holds(store: ViewStore, number: int) -> bool:
    row = store.read(number)
    return row is not None and row.tobytes() == make_row(number).tobytes()


def test_a_row_is_what_was_written_and_others_are_not_there(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    assert store.read(3) is None
    for number in (3, 100_000, 0):
        store.write(number, make_row(number))
    assert all(holds(store, number) for number in (0, 3, 100_000))
    assert [store.read(number) for number in (1, 2, 4, 99_999, 100_001)] == [None] * 5
    assert 3 * store.row_bytes <= stored_bytes(tmp_path) < 6 * store.row_bytes  # of 3 GB


def test_features_are_kept_by_position_in_half_precision() -> None:
    mid, high = (np.random.default_rng(0).standard_normal((channels, *SHAPE.maps)) for channels in (6, 700))
    row = SHAPE.row(mid, high, np.full(SHAPE.image, 255), np.ones(SHAPE.image, dtype=bool))
    assert np.array_equal(row["mid"][2, 3], mid[:, 2, 3].astype(np.float16))
    assert np.array_equal(row["high"][4, 0], high[:, 4, 0].astype(np.float16))
    assert (row["mask"] == 255).all() and row["padding"].all()


@pytest.mark.parametrize("value", [65520.0, -1e6, float("inf"), float("nan")])
def test_features_that_half_precision_cannot_hold(value: float) -> None:
    mid, high, mask = np.zeros((6, *SHAPE.maps)), np.zeros((700, *SHAPE.maps)), np.zeros(SHAPE.image)
    high[3, 1, 2] = value
    with pytest.raises(UserError, match=r"exceed 65504.* set TRAIN\.views=0"):
        SHAPE.row(mid, high, mask, mask)


def test_a_row_that_is_damaged_or_cut_short_is_not_there(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.write(0, make_row(0))
    store.write(1, make_row(1))
    path = store.folder / "rows.bin"
    whole = path.read_bytes()
    for place in (0, store.row_bytes // 2, store.row_bytes - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert store.read(0) is None and holds(store, 1)
    for length in (0, 5, store.row_bytes - 1):
        path.write_bytes(whole[:length])
        assert store.read(0) is None and store.read(1) is None
    store.write(1, make_row(1))
    assert store.read(0) is None and holds(store, 1)


def test_other_settings_have_rows_of_their_own(tmp_path: Path) -> None:
    store = make_store(tmp_path, backbone="a")
    store.write(0, make_row(0))
    assert holds(make_store(tmp_path, backbone="a"), 0)
    assert make_store(tmp_path, backbone="b").read(0) is None
    other = ViewShape(image=(33, 25), maps=(5, 4), mid_channels=5, high_channels=700)
    assert ViewStore.of(tmp_path, other, {"version": 1, "backbone": "a"}).folder != store.folder
    assert read_json(store.folder / "manifest.json")["backbone"] == "a"
    assert stored_bytes(tmp_path, store.folder.name) == stored_bytes(tmp_path) > 0


def test_a_folder_may_be_deleted_at_any_time(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.write(0, make_row(0))
    kept = store.read(0)
    for path in store.folder.iterdir():
        path.unlink()
    store.folder.rmdir()
    assert store.read(0) is None
    assert kept is not None and kept.tobytes() == make_row(0).tobytes()
    store.write(1, make_row(1))
    assert holds(store, 1)


def test_a_process_that_is_killed_leaves_whole_rows_only(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for moment in range(12):
        child = os.fork()
        if child == 0:
            for number in range(10_000):
                store.write(number, make_row(number))
            os._exit(0)
        time.sleep(0.01 + moment * 0.003)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    rows = [store.read(number) is not None for number in range(300)]
    written = rows.index(False)
    assert written and not any(rows[written:]) and all(holds(store, number) for number in range(written))


def test_processes_that_write_the_same_rows(tmp_path: Path) -> None:
    store, context = make_store(tmp_path), multiprocessing.get_context("fork")
    orders = [range(40), range(39, -1, -1)]
    processes = [context.Process(target=_write, args=(store, order)) for order in orders]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        assert all(store.read(number) is None or holds(store, number) for number in range(40))
    assert all(process.exitcode == 0 for process in processes)
    assert all(holds(store, number) for number in range(40))


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.write(0, make_row(0))
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (store.row_bytes + 100, hard))
    try:
        with pytest.raises(OSError, match=r"rows\.bin"):
            store.write(1, make_row(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert holds(store, 0) and store.read(1) is None


def test_it_travels_to_processes_without_its_rows(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.write(0, make_row(0))
    assert len(ForkingPickler.dumps(store)) < store.row_bytes / 10


def _write(store: ViewStore, numbers: range) -> None:
    for number in numbers:
        store.write(number, make_row(number))
