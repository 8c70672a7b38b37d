"""Labels in SBD's MATLAB files."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from scipy.sparse import csc_matrix, issparse

from prepare.pascal import matlab
from prepare.pascal.sbd import decode_sbd_label
from tests.prepare.pascal.voc_downloads import write_sbd_label
from util.errors import UserError


def mat_file(contents: dict[str, Any], compress: bool = False) -> bytes:
    stream = io.BytesIO()
    savemat(stream, contents, do_compression=compress)
    return stream.getvalue()


def test_a_label_comes_back(tmp_path: Path) -> None:
    label = np.random.default_rng(0).integers(0, 21, (37, 50), dtype=np.uint8)
    write_sbd_label(tmp_path / "label.mat", label)
    decoded = decode_sbd_label((tmp_path / "label.mat").read_bytes(), "label.mat")
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, label)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a MATLAB file",
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400),
        mat_file({"GTcls": {"Segmentation": np.full((4, 5), 0.5)}}),
        mat_file({"GTcls": {"Segmentation": np.full((4, 5), np.nan)}}),
        mat_file({"GTcls": {"Segmentation": np.full((4, 5), 256, dtype=np.uint16)}}),
        mat_file({"GTcls": {"Segmentation": np.full((4, 5), -1, dtype=np.int16)}}),
        mat_file({"GTcls": {"Segmentation": np.full((4, 5), 1j)}}),
        mat_file({"GTcls": {"Segmentation": "text"}}),
        mat_file({"other": np.zeros((4, 5), dtype=np.uint8)}),
        mat_file({"GTcls": {"Segmentation": csc_matrix((10**5, 10**5), dtype=np.float64)}}),
        mat_file({"GTcls": {"Segmentation": np.zeros((4, 5, 3), dtype=np.uint8)}}),
        mat_file({"GTcls": {"Segmentation": np.zeros((0, 0), dtype=np.uint8)}}),
        mat_file({"GTcls": {"Boundaries": np.zeros((4, 5), dtype=np.uint8)}}),
        mat_file({"GTcls": np.zeros((4, 5), dtype=np.uint8)}),
    ],
)
def test_anything_else_is_named(data: bytes) -> None:
    with pytest.raises(UserError, match=r"cls/1\.mat: not an SBD label \(a MATLAB file with GTcls\.Segmentation\)"):
        decode_sbd_label(data, "cls/1.mat")


def test_labels_of_objects_are_named() -> None:
    data = mat_file({"GTinst": {"Segmentation": np.zeros((4, 5), dtype=np.uint8)}})
    with pytest.raises(UserError, match=r"inst/1\.mat: .* it has GTinst, which are objects; classes are in"):
        decode_sbd_label(data, "inst/1.mat")


LABEL = np.random.default_rng(0).integers(0, 21, (37, 50), dtype=np.uint8)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    "numbers",
    [
        LABEL,
        LABEL.astype(np.float64),
        LABEL.astype(np.float32),
        LABEL.astype(np.uint16),
        LABEL.astype(np.int64),
        LABEL > 5,
        csc_matrix(LABEL.astype(np.float64)),
        csc_matrix(LABEL > 5),
        csc_matrix((37, 50)),
        LABEL[:1, :3],
    ],
)
def test_labels_of_every_type_are_those_that_scipy_reads(numbers: Any, compress: bool) -> None:
    data = mat_file({"other": np.eye(3), "GTcls": {"Name": "x", "Segmentation": numbers, "Cells": [1]}}, compress)
    expected = loadmat(io.BytesIO(data))["GTcls"][0, 0]["Segmentation"]
    expected = expected.toarray() if issparse(expected) else expected
    label = decode_sbd_label(data, "label.mat")
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, expected)


@pytest.mark.parametrize("numbers", [LABEL, csc_matrix(LABEL.astype(np.float64))])
@pytest.mark.parametrize("compress", [False, True])
def test_damage_is_never_a_label_of_another_kind(numbers: Any, compress: bool) -> None:
    """Cut anywhere, or with a byte changed, a file is refused or gives a label; nothing else is raised.

    One byte in a hundred ends the process in scipy.io.loadmat.
    """
    data = mat_file({"GTcls": {"Boundaries": csc_matrix(LABEL == 3), "Segmentation": numbers}}, compress)
    rng = np.random.default_rng(1)
    for _ in range(1000):
        with pytest.raises(UserError):
            decode_sbd_label(data[: rng.integers(len(data) - 8)], "cut.mat")
        changed = bytearray(data)
        changed[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        try:
            label = decode_sbd_label(bytes(changed), "changed.mat")
        except UserError:
            continue
        assert label.dtype == np.uint8
        # What is compressed has a checksum.
        assert not compress or np.array_equal(label, LABEL)


def test_a_small_file_of_a_huge_array_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "_MOST_BYTES", 1 << 20)
    header, bomb = mat_file({})[:128], zlib.compress(bytes(1 << 21))
    with pytest.raises(UserError, match=r"bomb\.mat: .*: cut short, or too large"):
        decode_sbd_label(header + struct.pack("<II", 15, len(bomb)) + bomb, "bomb.mat")
    data = mat_file({"GTcls": {"Segmentation": csc_matrix((10**3, 10**3))}})
    with pytest.raises(UserError, match=r"sparse\.mat: .*: \(1000, 1000\) are too many numbers"):
        decode_sbd_label(data, "sparse.mat")
