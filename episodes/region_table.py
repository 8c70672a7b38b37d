"""The regions of the pseudo masks, and which of them resemble each other (docs/method.md, section 11.9)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tokenize import TokenError

import numpy as np
import numpy.typing as npt
import torch

from episodes.groups import Groups
from episodes.pseudo_files import REMEDY, PseudoFiles
from util.array_files import read_arrays
from util.errors import UserError
from util.images import IGNORE

# What a damaged header of an array raises.
_UNREADABLE = (ValueError, TypeError, SyntaxError, TokenError, OverflowError, MemoryError, RecursionError)
_COLUMNS = ("image", "region", "group", "area")
# From which number and below which.
_IDS = (0, IGNORE)
_AREAS = (1, 2**31)
_BLOCK = 1024
_SMALL_GROUP = 20
_MOST_NEIGHBOURS = 5000


@dataclass(frozen=True)
class RegionTable:
    """R regions of the pseudo masks in a folder, one per row.

    ``images`` are the lines of ``images.txt``. ``image``, ``region``, ``group``, ``area``: int32 (R,), the row in
    ``images``, the id in the image's mask, the group that supports are drawn from (regions of one id), the area in
    pixels. Embeddings and nearest neighbours stay on disk: a loader's worker reads what an episode needs and keeps none
    of it.
    """

    files: PseudoFiles
    images: tuple[str, ...]
    image: np.ndarray
    region: np.ndarray
    group: np.ndarray
    area: np.ndarray

    @cached_property
    def members(self) -> dict[int, np.ndarray]:
        """Rows of each group, ascending."""
        groups = Groups(self.group)
        return dict(zip(groups.values.tolist(), groups, strict=True))

    @classmethod
    def load(cls, folder: Path) -> RegionTable:
        """Read the table of ``folder`` and the images that it is about.

        Raises ``UserError`` when one of its files is missing, damaged or describes other regions.
        """
        files = PseudoFiles(folder)
        images = tuple(files.read_images())
        kinds = dict.fromkeys(_COLUMNS, ("int32", 1))
        table = cls(files, images, **read_arrays(files.regions, kinds, remedy=REMEDY))
        table._check()
        files.check_digests()
        return table

    def __len__(self) -> int:
        return len(self.image)

    def neighbours(self, row: int, limit: int = 0) -> np.ndarray:
        """Rows of the group's regions in other images, highest cosine first, one per image.

        At most ``limit``; 0 means half of the n members of the group, at most 5,000, and all of them below n = 20.
        Neighbours are read up to the limit that the masks were made with, and searched for beyond it.
        """
        limit = limit or _default_limit(len(self.members[int(self.group[row])]))
        stored = _map(self.files.neighbours, np.int32)
        if limit > stored.shape[1]:
            return self._search(row, limit)
        nearest = np.array(stored[row, :limit])
        return nearest[nearest >= 0]

    def neighbour_counts(self, limit: int = 0) -> np.ndarray:
        """Number of neighbours of each region, (R,) int64, without searching for them."""
        counts = np.zeros(len(self), dtype=np.int64)
        for members in self.members.values():
            others = len(np.unique(self.image[members])) - 1
            counts[members] = min(others, limit or _default_limit(len(members)))
        return counts

    def _check(self) -> None:
        """Raise ``UserError`` unless all files have a row for each region, and numbers that it can have."""
        path, rows = self.files.regions, len(self)
        if rows == 0:
            raise UserError(f"{path}: it holds no region; {REMEDY}")
        for name, bounds in {"image": (0, len(self.images)), "region": _IDS, "group": _IDS, "area": _AREAS}.items():
            column = getattr(self, name)
            _check_length(path, name, column, rows)
            _check_bounds(path, name, column, *bounds)
        _check_length(self.files.embeddings, "it", _map(self.files.embeddings, np.float16), rows)
        neighbours = _map(self.files.neighbours, np.int32)
        _check_length(self.files.neighbours, "it", neighbours, rows)
        _check_bounds(self.files.neighbours, "a neighbour", neighbours, -1, rows)
        if limit := neighbours.shape[1]:
            missing = (neighbours >= 0).sum(axis=1) != self.neighbour_counts(limit)
            if missing.any():
                raise UserError(
                    f"{self.files.neighbours}: neighbours of region {missing.argmax()} are missing; {REMEDY}"
                )

    def _search(self, row: int, limit: int) -> np.ndarray:
        members = self.members[int(self.group[row])]
        most_in_image = int(np.bincount(self.image[members]).max())
        # As many rows as `limit` other images and the query's own can take up.
        ranked = members[_highest(self._cosine(members, row), (limit + 1) * most_in_image)]
        ranked = ranked[self.image[ranked] != self.image[row]]
        best_of_image = np.sort(np.unique(self.image[ranked], return_index=True)[1])
        nearest: np.ndarray = ranked[best_of_image[:limit]]
        return nearest

    def _cosine(self, members: np.ndarray, row: int) -> np.ndarray:
        """Cosine of each member's embedding with the row's, float32; half precision is widened block by block."""
        embedding = _map(self.files.embeddings, np.float16)
        query = embedding[row].astype(np.float32)
        blocks = (members[start : start + _BLOCK] for start in range(0, len(members), _BLOCK))
        # Torch widens half precision six times as fast as numpy.
        return np.concatenate([torch.from_numpy(embedding[block]).float().numpy() @ query for block in blocks])


def _map(path: Path, dtype: npt.DTypeLike) -> np.ndarray:
    """A file as a memory-mapped array with two axes: embeddings float16 (R, D), or neighbours int32 (R, N)."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise UserError(f"{path}: file not found; {REMEDY}") from None
    except _UNREADABLE as error:
        raise UserError(f"{path}: not a readable array ({error}); {REMEDY}") from None
    if array.dtype != dtype or array.ndim != 2:
        found = f"{array.dtype} of {array.ndim} axes"
        raise UserError(f"{path}: {found} is there, {np.dtype(dtype)} of 2 expected; {REMEDY}")
    return array


def _check_length(path: Path, name: str, array: np.ndarray, rows: int) -> None:
    if len(array) != rows:
        raise UserError(f"{path}: {name} has {len(array)} rows, {rows} regions expected; {REMEDY}")


def _check_bounds(path: Path, name: str, array: np.ndarray, least: int, bound: int) -> None:
    for value in (array.min(initial=least), array.max(initial=least)):
        if not least <= value < bound:
            raise UserError(f"{path}: {name} is {value} there, {least} to {bound - 1} expected; {REMEDY}")


def _default_limit(members: int) -> int:
    return members if members < _SMALL_GROUP else min(members // 2, _MOST_NEIGHBOURS)


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` highest values (all where there are fewer), highest first, ties in their order."""
    candidates = np.arange(len(values))
    if count < len(values):
        candidates = np.sort(np.argpartition(-values, count)[:count])
    return candidates[np.argsort(-values[candidates], kind="stable")]
