"""The objects of the pseudo masks and their embeddings: which regions resemble each other (SPEC section 11.9)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from util.errors import UserError

REGIONS_FILE = "regions.safetensors"
_REMEDY = "make the pseudo masks again with `bash masks/create.sh ROOT DATASET`"
_BLOCK = 1024
_SMALL_GROUP = 20
_MOST_NEIGHBOURS = 5000
_FIELDS = ("image", "region", "group", "area", "embedding")


@dataclass(frozen=True)
class RegionTable:
    """R regions, row by row.

    ``image``, ``region``, ``group``, ``area``: int32 (R,), the row in ``images.txt``, the id in the image's PNG, the
    group that supports are drawn from (regions of one id), the pixels. ``embedding``: float16 (R, D), unit length.
    """

    image: np.ndarray
    region: np.ndarray
    group: np.ndarray
    area: np.ndarray
    embedding: np.ndarray

    @cached_property
    def members(self) -> dict[int, np.ndarray]:
        """Rows of each group, ascending."""
        order = np.argsort(self.group, kind="stable")
        groups, starts = np.unique(self.group[order], return_index=True)
        return dict(zip(groups.tolist(), np.split(order, starts[1:]), strict=True))

    @classmethod
    def load(cls, folder: Path) -> RegionTable:
        """Read ``folder/regions.safetensors``. Raises ``UserError`` when it is missing or damaged."""
        path = folder / REGIONS_FILE
        try:
            arrays = load_file(path)
            return cls(*(arrays[name] for name in _FIELDS))
        except FileNotFoundError:
            raise UserError(f"{path}: file not found; {_REMEDY}") from None
        except (SafetensorError, KeyError) as error:
            raise UserError(f"{path}: not a readable region file ({error}); {_REMEDY}") from None

    def __len__(self) -> int:
        return len(self.image)

    def neighbours(self, row: int, limit: int = 0) -> np.ndarray:
        """Rows of the group's regions in other photographs, highest cosine first, one for each photograph.

        At most ``limit``; 0 means half of the n members of the group, at most 5,000, all of them below n = 20.
        """
        members = self.members[int(self.group[row])]
        limit = limit or _default_limit(len(members))
        most_in_photograph = int(np.bincount(self.image[members]).max())
        # As many rows as `limit` other photographs and the query's own can take up.
        ranked = members[_highest(self._cosine(members, row), (limit + 1) * most_in_photograph)]
        ranked = ranked[self.image[ranked] != self.image[row]]
        best_of_photograph = np.sort(np.unique(self.image[ranked], return_index=True)[1])
        nearest: np.ndarray = ranked[best_of_photograph[:limit]]
        return nearest

    def neighbour_counts(self, limit: int = 0) -> np.ndarray:
        """How many neighbours each region has, (R,) int64, without looking for them."""
        counts = np.zeros(len(self), dtype=np.int64)
        for members in self.members.values():
            others = len(np.unique(self.image[members])) - 1
            counts[members] = min(others, limit or _default_limit(len(members)))
        return counts

    def _cosine(self, members: np.ndarray, row: int) -> np.ndarray:
        """Of each member's embedding with the row's, float32; half precision is widened a block at a time."""
        embedding = torch.from_numpy(self.embedding)
        query = embedding[row].float()
        return torch.cat(
            [embedding[block].float() @ query for block in torch.from_numpy(members).split(_BLOCK)]
        ).numpy()


def _default_limit(members: int) -> int:
    return members if members < _SMALL_GROUP else min(members // 2, _MOST_NEIGHBOURS)


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` highest values (all where there are fewer), highest first, ties in their order."""
    candidates = np.arange(len(values))
    if count < len(values):
        candidates = np.sort(np.argpartition(-values, count)[:count])
    return candidates[np.argsort(-values[candidates], kind="stable")]
