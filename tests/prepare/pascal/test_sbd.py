"""Labels in SBD's MATLAB files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from prepare.pascal.sbd import decode_sbd_label
from tests.prepare.pascal.voc_downloads import write_sbd_label
from util.errors import UserError


def mat_file(contents: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    savemat(stream, contents)
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
        mat_file({"GTcls": {"Segmentation": np.zeros((4, 5))}}),
        mat_file({"GTcls": {"Segmentation": np.zeros((4, 5, 3), dtype=np.uint8)}}),
        mat_file({"GTcls": {"Segmentation": np.zeros((0, 0), dtype=np.uint8)}}),
        mat_file({"GTcls": {"Boundaries": np.zeros((4, 5), dtype=np.uint8)}}),
        mat_file({"GTcls": np.zeros((4, 5), dtype=np.uint8)}),
        mat_file({"GTinst": {"Segmentation": np.zeros((4, 5), dtype=np.uint8)}}),
    ],
)
def test_anything_else_is_named(data: bytes) -> None:
    with pytest.raises(UserError, match=r"cls/1\.mat: not an SBD label \(a MATLAB file with GTcls\.Segmentation\)"):
        decode_sbd_label(data, "cls/1.mat")


def test_damage_is_never_a_label_of_another_kind(tmp_path: Path) -> None:
    """Cut anywhere, or with a byte changed, a file is refused or gives a label; nothing else is raised."""
    write_sbd_label(tmp_path / "label.mat", np.random.default_rng(0).integers(0, 21, (37, 50), dtype=np.uint8))
    data = (tmp_path / "label.mat").read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(100):
        with pytest.raises(UserError):
            decode_sbd_label(data[: rng.integers(len(data) - 1)], "cut.mat")
        changed = bytearray(data)
        changed[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        try:
            assert decode_sbd_label(bytes(changed), "changed.mat").dtype == np.uint8
        except UserError:
            pass
