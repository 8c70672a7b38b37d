"""The regions of the pseudo masks, and which of them resemble each other (docs/method.md, section 11.9)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from episodes.groups import Groups
from util.errors import UserError
from util.files import read_arrays

REGIONS_FILE = "regions.safetensors"
EMBEDDINGS_FILE = "embeddings.npy"
NEIGHBOURS_FILE = "neighbours.npy"
_REMEDY = "make the pseudo masks again with `bash masks/create.sh ROOT DATASET`"
_BLOCK = 1024
_SMALL_GROUP = 20
_MOST_NEIGHBOURS = 5000


@dataclass(frozen=True)
class RegionTable:
    """R regions, row by row, of the pseudo masks in ``folder``.

    ``image``, ``region``, ``group``, ``area``: int32 (R,), the row in ``images.txt``, the id in the image's PNG, the
    group that supports are drawn from (regions of one id), the pixels. Embeddings and the nearest neighbours stay on
    the disk: a loader's worker reads what an episode takes, and keeps nothing of it.
    """

    folder: Path
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
        """Read ``folder/regions.safetensors``.

        Raises ``UserError`` when it or one of its companions is missing, damaged or of other regions.
        """
        names = ("image", "region", "group", "area")
        table = cls(folder, **read_arrays(folder / REGIONS_FILE, names, remedy=_REMEDY))
        for name in (EMBEDDINGS_FILE, NEIGHBOURS_FILE):
            rows = len(table._map(name))
            if rows != len(table):
                raise UserError(f"{folder / name}: {rows} rows, {REGIONS_FILE} has {len(table)}; {_REMEDY}")
        return table

    def __len__(self) -> int:
        return len(self.image)

    def neighbours(self, row: int, limit: int = 0) -> np.ndarray:
        """Rows of the group's regions in other photographs, highest cosine first, one for each photograph.

        At most ``limit``; 0 means half of the n members of the group, at most 5,000, all of them below n = 20.
        Up to the limit that the masks were made for they are read, beyond it they are searched for.
        """
        limit = limit or _default_limit(len(self.members[int(self.group[row])]))
        nearest = self._map(NEIGHBOURS_FILE)
        if limit > nearest.shape[1]:
            return self._search(row, limit)
        found = np.array(nearest[row, :limit])
        return found[found >= 0]

    def neighbour_counts(self, limit: int = 0) -> np.ndarray:
        """How many neighbours each region has, (R,) int64, without looking for them."""
        counts = np.zeros(len(self), dtype=np.int64)
        for members in self.members.values():
            others = len(np.unique(self.image[members])) - 1
            counts[members] = min(others, limit or _default_limit(len(members)))
        return counts

    def _search(self, row: int, limit: int) -> np.ndarray:
        members = self.members[int(self.group[row])]
        most_in_photograph = int(np.bincount(self.image[members]).max())
        # As many rows as `limit` other photographs and the query's own can take up.
        ranked = members[_highest(self._cosine(members, row), (limit + 1) * most_in_photograph)]
        ranked = ranked[self.image[ranked] != self.image[row]]
        best_of_photograph = np.sort(np.unique(self.image[ranked], return_index=True)[1])
        nearest: np.ndarray = ranked[best_of_photograph[:limit]]
        return nearest

    def _cosine(self, members: np.ndarray, row: int) -> np.ndarray:
        """Of each member's embedding with the row's, float32; half precision is widened a block at a time."""
        embedding = self._map(EMBEDDINGS_FILE)
        query = embedding[row].astype(np.float32)
        blocks = (members[start : start + _BLOCK] for start in range(0, len(members), _BLOCK))
        # Torch widens half precision six times as fast as numpy.
        return np.concatenate([torch.from_numpy(embedding[block]).float().numpy() @ query for block in blocks])

    def _map(self, name: str) -> np.ndarray:
        """A file of the folder as a memory-mapped array: embeddings float16 (R, D), or neighbours int32 (R, N)."""
        path = self.folder / name
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise UserError(f"{path}: file not found; {_REMEDY}") from None
        except (ValueError, EOFError) as error:
            raise UserError(f"{path}: not a readable array ({error}); {_REMEDY}") from None


def _default_limit(members: int) -> int:
    return members if members < _SMALL_GROUP else min(members // 2, _MOST_NEIGHBOURS)


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` highest values (all where there are fewer), highest first, ties in their order."""
    candidates = np.arange(len(values))
    if count < len(values):
        candidates = np.sort(np.argpartition(-values, count)[:count])
    return candidates[np.argsort(-values[candidates], kind="stable")]
