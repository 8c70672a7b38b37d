"""Reading arrays from MATLAB's files of version 5 to 7, which are not HDF5.

``scipy.io.loadmat`` reads all of the format, but a single damaged byte can end the process: its compiled code trusts
the sizes in the file. This module reads what labels need, checks every size, and the checksum of what is compressed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_HEADER = 128
# The end of the header, where numbers begin with their smallest byte, as on all of today's machines.
_LITTLE_ENDIAN = b"IM"
# Types of elements; those of numbers with numpy's names.
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
# Kinds of arrays; those of numbers are 6 to 15.
_STRUCT, _SPARSE = 2, 5
_DENSE = range(6, 16)
_COMPLEX_FLAG = 0x0800
# The largest array: a label has less than a megabyte.
_MOST_BYTES = 1 << 28


class MatlabError(Exception):
    """Why bytes are not a MATLAB file, or not one with the array that is asked for."""


class MatlabArray(NamedTuple):
    """An array in a file: its name, kind and shape, and the elements with its content."""

    name: str
    kind: int
    shape: tuple[int, ...]
    content: list[_Element]

    def field(self, name: str) -> MatlabArray:
        """The field of a struct of one row. Raises ``MatlabError``."""
        if self.kind != _STRUCT or self.shape != (1, 1) or len(self.content) < 2:
            raise MatlabError(f"{self.name} is not a struct")
        length = _numbers(self.content[0])
        if length.size != 1 or length[0] < 1:
            raise MatlabError("the names of fields are damaged")
        data = bytes(self.content[1].data)
        starts = range(0, len(data), int(length[0]))
        names = [data[start : start + int(length[0])].partition(b"\0")[0] for start in starts]
        if name.encode() not in names or len(names) != len(self.content) - 2:
            raise MatlabError(f"{self.name} has no {name}")
        return _array(self.content[2 + names.index(name.encode())])

    def numbers(self) -> np.ndarray:
        """The numbers of a dense or sparse array, in its shape. Raises ``MatlabError``."""
        if self.kind == _SPARSE:
            return self._dense()
        if self.kind not in _DENSE or len(self.content) != 1:
            raise MatlabError("the array is not one of real numbers")
        numbers = _numbers(self.content[0])
        if numbers.size != math.prod(self.shape):
            raise MatlabError(f"{numbers.size} numbers are not {self.shape}")
        return numbers.reshape(self.shape, order="F")

    def _dense(self) -> np.ndarray:
        """The numbers of a sparse array: the rows of its numbers, the first number of each column, and these."""
        if len(self.content) != 3 or len(self.shape) != 2:
            raise MatlabError("the sparse array is damaged")
        rows, starts, values = (_numbers(element) for element in self.content)
        if math.prod(self.shape) * values.itemsize > _MOST_BYTES:
            raise MatlabError(f"{self.shape} are too many numbers")
        inside = np.all((rows >= 0) & (rows < self.shape[0])) and np.all((starts >= 0) & (starts <= values.size))
        whole = rows.dtype.kind in "iu" and starts.dtype.kind in "iu"
        if not whole or not inside or starts.size != self.shape[1] + 1 or rows.size < values.size:
            raise MatlabError("the sparse array is damaged")
        counts: np.ndarray = np.diff(starts.astype(np.int64))
        if starts[0] != 0 or np.any(counts < 0):
            raise MatlabError("the sparse array is damaged")
        dense = np.zeros(self.shape, dtype=values.dtype)
        dense[rows[: starts[-1]], np.repeat(np.arange(self.shape[1]), counts)] = values[: starts[-1]]
        return dense


def matlab_arrays(data: bytes) -> Iterator[MatlabArray]:
    """The arrays of a file. Raises ``MatlabError``."""
    if data[_HEADER - len(_LITTLE_ENDIAN) : _HEADER] != _LITTLE_ENDIAN:
        raise MatlabError("not in the format of MATLAB 5 to 7")
    for element in _elements(memoryview(data)[_HEADER:]):
        if element.type == _COMPRESSED:
            yield from (_array(inner) for inner in _elements(memoryview(_decompress(element.data))))
        elif element.type == _MATRIX:
            yield _array(element)


class _Element(NamedTuple):
    """A typed piece of a file."""

    type: int
    data: memoryview


def _elements(data: memoryview) -> Iterator[_Element]:
    """The elements that ``data`` consists of."""
    position = 0
    while position < len(data):
        head = np.frombuffer(data[position : position + 8], dtype=np.uint8)
        if head.size < 8:
            raise MatlabError("cut short")
        kind, size = (int(number) for number in head.view("<u4"))
        if kind >> 16:  # a small element: size and type in one number, and the data in the other
            kind, size, start, end = kind & 0xFFFF, kind >> 16, position + 4, position + 8
        else:
            start = position + 8
            end = start + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if start + size > min(end, len(data)):
            raise MatlabError("cut short")
        yield _Element(kind, data[start : start + size])
        position = end


def _array(element: _Element) -> MatlabArray:
    """The array in an element: flags, shape and name, and its content, which is not looked at."""
    if element.type != _MATRIX:
        raise MatlabError("not an array")
    parts = list(_elements(element.data))
    if len(parts) < 3:
        raise MatlabError("an array without a shape and a name")
    flags, sides = _numbers(parts[0]), _numbers(parts[1])
    if flags.size != 2 or flags.dtype.kind != "u" or sides.dtype.kind != "i" or sides.size < 2 or sides.min() < 0:
        raise MatlabError("an array without a shape")
    kind = int(flags[0]) & 0xFF
    if int(flags[0]) & _COMPLEX_FLAG:
        raise MatlabError("an array of complex numbers")
    name = bytes(parts[2].data).decode("ascii", "replace")
    return MatlabArray(name, kind, tuple(int(side) for side in sides), parts[3:])


def _numbers(element: _Element) -> np.ndarray:
    """The numbers of an element, (n,)."""
    if element.type not in _NUMBERS:
        raise MatlabError("not an element of numbers")
    dtype = np.dtype(_NUMBERS[element.type])
    if len(element.data) % dtype.itemsize:
        raise MatlabError("cut short")
    return np.frombuffer(element.data, dtype=dtype)


def _decompress(data: memoryview) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        unpacked = decompressor.decompress(data, _MOST_BYTES)
    except zlib.error as error:
        raise MatlabError(f"damaged ({error})") from None
    if not decompressor.eof:
        raise MatlabError("cut short, or too large")
    return unpacked
