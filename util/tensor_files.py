"""Files of tensors, torch's and those of safetensors: checked when they are read, written whole or not at all.

A torch file is a zip archive that states the CRC-32 of every record, which torch itself never compares. Safetensors
hold no checksum: those written here have a digest in their metadata. Older torch files, pickles that are no zip
archive, have neither.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from util.errors import UserError
from util.files import atomic_write, write_bytes

_DIGEST = "digest"
# A zip archive whose records claim more than this times its own size is no torch file, which does not compress.
_MOST_EXPANSION = 10
# The bit among the attributes of a record by which torch knows a folder.
_IS_FOLDER = 0x10
# safetensors reads no larger header.
_LARGEST_HEADER = 100_000_000
# What a zip archive raises that is damaged, and torch for a damaged pickle: found by changing bytes.
_DAMAGED_ARCHIVE = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, ValueError, OverflowError)
_DAMAGED_PICKLE = (
    *(pickle.UnpicklingError, struct.error, RuntimeError, EOFError, ValueError, LookupError, TypeError),
    *(AttributeError, AssertionError, OverflowError, MemoryError),
)
# Files that are often taken for weights, by their first bytes.
_OTHERS = (
    (rb"\s*<", "a web page", "fetch the file that the page links to"),
    (rb"version https://git-lfs", "a pointer of Git LFS", "run git lfs pull where it comes from"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|.{257}ustar", "an archive", "unpack it and give the file in it"),
    (rb"\x89HDF", "an HDF5 file", "a torch or safetensors file is needed"),
    (rb"\x93NUMPY", "an array of NumPy", "a torch or safetensors file is needed"),
    (rb"\s*[{\[]", "JSON", "a torch or safetensors file is needed"),
)


class TensorFile(NamedTuple):
    """What a file holds: named tensors and, in a torch file, other values; the metadata of safetensors."""

    content: dict[str, Any]
    metadata: dict[str, str]


def read_tensor_file(path: Path, *, missing: str, damaged: str) -> TensorFile:
    """Read a torch or safetensors file, told by its first bytes, to the CPU, without running code from it.

    Raises ``UserError`` for anything else: for a path without a file it ends with the advice ``missing``, for a file
    that is cut short or holds other bytes than were written with ``damaged``.
    """
    head = _first_bytes(path, missing, damaged)
    if _is_safetensors(head):
        return _read_safetensors(path, damaged)
    if head.startswith(b"PK"):
        _check_archive(path, damaged)
    elif not head.startswith(b"\x80"):
        reason, advice = _other_kind(head) or ("neither a torch nor a safetensors file", damaged)
        raise _unreadable(path, reason, advice)
    content = _load_pickle(path, damaged)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return TensorFile(content, {})


def write_torch_file(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values atomically, readable with ``weights_only=True``."""
    # Not to the file directly: on a full disk torch raises RuntimeError instead of OSError.
    stream = io.BytesIO()
    torch.save(content, stream)
    with atomic_write(path) as temporary:
        temporary.write_bytes(stream.getbuffer())


def write_safetensors_file(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, atomically, with a digest of them and of the ``metadata``."""
    # safetensors refuses tensors that share memory.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_bytes(path, save(copies, {**metadata, _DIGEST: digest_tensors(copies, metadata)}))


def digest_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """SHA-256 (hex) of names, types, shapes and bytes of tensors on the CPU, and of the metadata."""
    digest = hashlib.sha256(repr(sorted((metadata or {}).items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _first_bytes(path: Path, missing: str, damaged: str) -> bytes:
    if not path.exists():
        raise UserError(f"{path}: {missing}")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or a pipe"
        raise _unreadable(path, kind, "the name of a file is needed")
    _require_memory(path, path.stat().st_size)
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        raise _unreadable(path, "it is empty", damaged)
    return head


def _require_memory(path: Path, size: int) -> None:
    """Raise ``UserError`` where ``size`` bytes are more than the machine has, rather than die while reading them."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise UserError(f"{path}: holds {size:,} bytes, more than the {memory:,} of this machine's memory")


def _is_safetensors(head: bytes) -> bool:
    """The length of a header in 8 bytes, then the header, which is JSON."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LARGEST_HEADER


def _other_kind(head: bytes) -> tuple[str, str] | None:
    """What a file with these first bytes is, and what to do; None for nothing known."""
    head = head.removeprefix(b"\xef\xbb\xbf")
    known = [(kind, advice) for pattern, kind, advice in _OTHERS if re.match(pattern, head, re.DOTALL)]
    return known[0] if known else None


def _read_safetensors(path: Path, damaged: str) -> TensorFile:
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = dict(stream.metadata() or {})
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}
    except SafetensorError as error:
        raise _unreadable(path, "damaged or cut short", damaged) from error
    stated = metadata.pop(_DIGEST, None)
    if stated is not None and stated != digest_tensors(tensors, metadata):
        raise _unreadable(path, "it holds other bytes than were written", damaged)
    return TensorFile(tensors, metadata)


def _check_archive(path: Path, damaged: str) -> None:
    """Raise ``UserError`` for a zip archive that torch did not write, or whose bytes are not those it wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if sum(record.file_size for record in records) > _MOST_EXPANSION * path.stat().st_size:
                raise _unreadable(path, "it claims to hold far more than its size", damaged)
            for record in records:
                _check_record(archive, record)
    except _DAMAGED_ARCHIVE as error:
        raise _unreadable(path, "damaged or cut short", damaged) from error
    names = {Path(record.filename).name for record in records}
    if "constants.pkl" in names:
        advice = "save its tensors alone with torch.save(torch.jit.load(FILE).state_dict(), OTHER)"
        raise _unreadable(path, "a TorchScript program", advice)
    if "data.pkl" not in names:
        raise _unreadable(path, "a zip archive that torch did not write", "unpack it and give the file in it")


def _check_record(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> None:
    """Read a record, for ``zipfile`` compares its CRC-32; torch can be told to write none, which leaves a 0."""
    if record.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"compression {record.compress_type}")
    if record.external_attr & _IS_FOLDER:
        raise zipfile.BadZipFile("a folder")  # torch would leave its tensor as the memory happens to be
    if record.CRC == 0:
        return
    try:
        with archive.open(record) as stream:
            while stream.read(1 << 20):
                pass
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise zipfile.BadZipFile("a record outside the file") from error


def _load_pickle(path: Path, damaged: str) -> Any:
    try:
        # A stream, because torch chooses another reader by the suffix of a path.
        with path.open("rb") as stream, torch.serialization.safe_globals(_PLAIN_TYPES), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it then fails at
            return torch.load(stream, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _unreadable(path, "a part outside the file", damaged) from error
    except _DAMAGED_PICKLE as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is not None:
            advice = "save its tensors alone where it was made, with torch.save(network.state_dict(), FILE)"
            raise _unreadable(path, f"it holds more than tensors and plain values: {refused[1]}", advice) from error
        if "Unsupported operand" in str(error):
            damaged = f"{damaged}, or save it again with torch.save as it is by default"
        raise _unreadable(path, "damaged or cut short", damaged) from error


def _unreadable(path: Path, reason: str, advice: str) -> UserError:
    return UserError(f"{path}: not a readable weight file ({reason}); {advice}")


class _Ignored:
    """Stands for a value of a type that is harmless and not needed, whatever it was made from."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _NumberType(_Ignored):
    """Stands for a type of NumPy; NumPy's own reader of pickles trusts them."""

    def __init__(self, code: str, *flags: Any) -> None:
        self.code = code if re.fullmatch(r"[biufc]\d{1,2}", code) else None
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="


def _number(kind: _NumberType, data: Any) -> Any:
    """The Python number for a scalar of NumPy with these bytes."""
    if kind.code is None:
        return _Ignored()
    return np.frombuffer(data, f"{kind.order}{kind.code}")[0].item()


# Types in checkpoints of others that are read although torch refuses them, and what stands for them.
_PLAIN_TYPES: list[Any] = [
    (_NumberType, "numpy.dtype"),
    *((_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_Ignored, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((_Ignored, name) for name in ("numpy.ndarray", "argparse.Namespace")),
    *((_Ignored, f"{module}.{kind}Path") for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")),
]
