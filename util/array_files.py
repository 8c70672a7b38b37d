"""Files of numpy arrays: written whole or not at all, checked when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from util.errors import UserError
from util.files import atomic_write, write_bytes
from util.logging import logger

# The dtype and the number of axes of an array.
ArrayKind = tuple[str, int]

_DIGEST = "sha256"  # a key in the metadata of safetensors


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write arrays as safetensors with a digest of them, atomically."""
    # Not save_file: on a full disk that raises an error of its own kind, which is no OSError.
    write_bytes(path, save(dict(tensors), {_DIGEST: _digest_arrays(tensors)}))


def write_array(path: Path, parts: Iterable[np.ndarray], *, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
    """Write an array as .npy, atomically, from its ``parts`` along the first axis, one in memory at a time."""
    # Written, not memory-mapped: on a full disk a write raises an error, whereas a mapping kills the process.
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for part in parts:
            stream.write(np.ascontiguousarray(part, dtype=dtype).tobytes())


def read_arrays(
    path: Path, kinds: Mapping[str, ArrayKind], *, remedy: str, needs_digest: bool = False
) -> dict[str, np.ndarray]:
    """The named arrays of a safetensors file, each of its dtype and number of axes: ``{"area": ("int32", 1)}``.

    Raises ``UserError`` that ends with ``remedy`` for a file that is missing, damaged, lacks an array of that kind or
    changed after ``write_tensors``, where ``needs_digest`` also for one of other origin.
    """
    try:
        with safe_open(path, framework="np") as stream:
            digest = (stream.metadata() or {}).get(_DIGEST)
            arrays = {name: stream.get_tensor(name) for name in kinds}
    except FileNotFoundError:
        raise UserError(f"{path}: file not found; {remedy}") from None
    except (SafetensorError, TypeError) as error:  # TypeError: a dtype that numpy does not have
        raise UserError(f"{path}: not a readable file of {', '.join(kinds)} ({error}); {remedy}") from None
    for name, (dtype, axes) in kinds.items():
        array = arrays[name]
        if (array.dtype.name, array.ndim) != (dtype, axes):
            found = f"{array.dtype.name} of {array.ndim} axes"
            raise UserError(f"{path}: {name} is {found} there, {dtype} of {axes} expected; {remedy}")
    if (needs_digest or digest is not None) and digest != _digest_arrays(arrays):
        raise UserError(f"{path}: not a file as it was written; {remedy}")
    return arrays


def read_left_over(path: Path, kinds: Mapping[str, ArrayKind]) -> dict[str, np.ndarray] | None:
    """``read_arrays`` of a file that an earlier run may have left; None where it is to be made, or made again.

    A damaged one gets a line in the log.
    """
    if not path.is_file():
        return None
    try:
        return read_arrays(path, kinds, remedy="it is made again", needs_digest=True)
    except UserError as error:
        logger.warning("%s", error)
        return None


def _digest_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 (hex) of names, dtypes, shapes and numbers."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    return digest.hexdigest()
