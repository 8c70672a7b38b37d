"""Files of tensors: every bit of them, values of other libraries, the kind by the content, full disks."""

from __future__ import annotations

import argparse
import datetime
import errno
import os
import pickle
import random
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from util.errors import UserError
from util.tensor_files import read_tensor_file, write_safetensors_file, write_torch_file

TENSORS = {
    "a": torch.arange(12.0).view(3, 4),
    "b": torch.arange(5),
    "half": torch.ones(3).half(),
    "none": torch.zeros(0),
}


def read(path: Path) -> dict[str, Any]:
    return read_tensor_file(path, missing="it is missing", damaged="fetch it").content


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    return bool(first == second)


def write_safetensors(path: Path) -> None:
    write_safetensors_file(path, TENSORS, {"format": "pt"})


def write_torch(path: Path) -> None:
    write_torch_file(path, {"model": TENSORS, "name": "none", "share": 0.5})


@pytest.mark.parametrize("write", [write_safetensors, write_torch])
def test_a_flipped_bit_of_any_byte_is_refused_or_changes_nothing(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """Among them the bit by which torch takes a tensor for a folder and leaves it unread."""
    path = tmp_path / "file"
    write(path)
    whole, expected = path.read_bytes(), read(path)
    refused = 0
    for position in range(len(whole)):
        # All bits in turn; bit 4 in the table of contents of the archive.
        bit = position % 8 if position < len(whole) // 2 else 4
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
        try:
            assert equal(read(path), expected), position
        except UserError:
            refused += 1
    assert refused > len(whole) / 2


def test_safetensors_come_back_with_their_metadata(tmp_path: Path) -> None:
    shared = torch.zeros(4, 3)
    tensors = {
        **TENSORS,
        "transposed": shared.T,
        "shared": shared,
        "last": shared.to(memory_format=torch.preserve_format),
    }
    write_safetensors_file(tmp_path / "w", tensors, {"format": "pt", "made": "here"})
    content, metadata = read_tensor_file(tmp_path / "w", missing="", damaged="")
    assert equal(content, tensors) and metadata == {"format": "pt", "made": "here"}


def test_files_of_others_are_known_by_their_content(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "pytorch_model.bin")
    torch.save(TENSORS, tmp_path / "model.safetensors")
    torch.save(TENSORS, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    torch.serialization.set_crc32_options(False)
    torch.save(TENSORS, tmp_path / "without_checksums.gz")
    torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(tmp_path / "without_checksums.gz") as archive:
        assert not any(record.CRC for record in archive.infolist())
    for path in tmp_path.iterdir():
        assert equal(read(path), TENSORS), path


def test_plain_values_of_other_libraries_are_harmless(tmp_path: Path) -> None:
    values = {
        "epoch": np.int64(-7), "miou": np.float64(0.25), "big": np.dtype(">f4").type(1.5), "best": np.bool_(True),
        "dtype": np.dtype("f4"), "array": np.arange(3), "objects": np.array([{}, None], dtype=object),
        "text": np.str_("x"), "path": tmp_path, "arguments": argparse.Namespace(lr=1), "random": np.random.get_state(),
    }  # fmt: skip
    for legacy in (False, True):
        torch.save({**TENSORS, **values}, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
        content = read(tmp_path / "w.pth")
        assert equal({name: content[name] for name in TENSORS}, TENSORS)
        assert [content[name] for name in ("epoch", "miou", "big", "best")] == [-7, 0.25, 1.5, True]


class _Opens:
    """Pickled, it is a call of the system's shell."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (datetime.date(2020, 1, 1), r"datetime\.date"),
        (torch.nn.Linear(1, 1), r"torch\.nn\.modules\.linear\.Linear"),
        (_Opens(), r"posix\.system"),
        (np.random.RandomState(0), r"numpy\.random\._pickle\.__randomstate_ctor"),
    ],
)
def test_another_type_is_refused_by_its_name(tmp_path: Path, value: object, name: str) -> None:
    torch.save({"a": torch.zeros(1), "value": value}, tmp_path / "w.pth")
    message = rf"w\.pth: .*holds more than tensors and plain values: {name}\); save its tensors alone [^\n]*$"
    with pytest.raises(UserError, match=message) as mistake:
        read(tmp_path / "w.pth")
    assert "fetch it" not in str(mistake.value)


def test_a_pickle_of_another_protocol_is_to_be_saved_again(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "w.pth", pickle_protocol=4)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"a": 1}))
    for path in tmp_path.iterdir():
        with pytest.raises(UserError, match=r"fetch it, or save it again with torch\.save"):
            read(path)


def test_an_archive_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\2}.")
        archive.writestr("archive/data/0", bytes(10**7))
    with pytest.raises(UserError, match="claims to hold far more than its size"):
        read(tmp_path / "w.pth")


def test_a_pickle_that_claims_huge_tensors_is_refused(tmp_path: Path) -> None:
    """Of the old kind, whose storages have no other size than the one that the pickle claims."""
    torch.save({"a": torch.zeros(77)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "w.pth").read_bytes()
    size = b"K" + bytes([77])
    assert whole.count(size) == 2
    (tmp_path / "w.pth").write_bytes(whole.replace(size, b"\x8a\6" + struct.pack("<q", 2**45)[:6]))
    with pytest.raises(UserError, match="damaged or cut short"):
        read(tmp_path / "w.pth")


@pytest.mark.parametrize("kind", ["archive", "pickle", "old", "safetensors"])
def test_changed_bytes_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    """Three hundred times, from one seed; ``pickle`` is an archive whose checksums are right for what was changed."""
    path, draw = tmp_path / "w", random.Random(5)
    content = {"version": 2, "epoch": np.float64(3), "path": tmp_path, "list": [1, 2.5, (1, "x")], "model": TENSORS}
    torch.save(content, path, _use_new_zipfile_serialization=kind != "old")
    if kind == "safetensors":
        save_file(TENSORS, path)
    whole = path.read_bytes()
    records: dict[str, bytes] = {}
    if kind == "pickle":
        with zipfile.ZipFile(path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(300):
        if kind == "pickle":
            with zipfile.ZipFile(path, "w") as changed:
                for name, data in records.items():
                    changed.writestr(name, mutated(data, draw) if name.endswith("data.pkl") else data)
        else:
            path.write_bytes(mutated(whole, draw))
        try:
            read(path)
        except UserError as error:
            assert "\n" not in str(error)


def mutated(data: bytes, draw: random.Random) -> bytes:
    """A bit or a byte changed, some bytes left out or put in, or the end cut off."""
    start = draw.randrange(len(data))
    count = draw.randrange(1, 9)
    choices: list[Callable[[], bytes]] = [
        lambda: data[:start] + bytes([data[start] ^ 1 << draw.randrange(8)]) + data[start + 1 :],
        lambda: data[:start] + draw.randbytes(1) + data[start + 1 :],
        lambda: data[:start] + data[start + count :],
        lambda: data[:start] + draw.randbytes(count) + data[start:],
        lambda: data[: start + 1],
    ]
    return draw.choice(choices)()


@pytest.mark.parametrize("write", [write_safetensors, write_torch])
def test_a_disk_that_is_full_is_an_error_of_the_system(tmp_path: Path, write: Callable[[Path], None]) -> None:
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError) as failure:
            write(tmp_path / "w")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failure.value.errno == errno.EFBIG and not list(tmp_path.iterdir())
