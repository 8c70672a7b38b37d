"""Recipe ``objects``: what the middle of photographs has and the rest of them has not, learnt from all of them.

An object tends to lie in the middle of its photograph, in front of what surrounds it. One photograph says little about
which of its features are the object's, but the mean over hundreds of photographs, of the middle's features minus the
whole photograph's, is a direction in feature space that points from grass, sky and walls to animals and vehicles. The
superpixels that lie furthest along it are the objects; taken in place of the middle, they give a better direction, and
after a few rounds the same superpixels come out again. No label is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load_file
from scipy.sparse import csr_array, kron

from masks.assign import Maps, Segmentation
from masks.features import FeatureMaps, interpolation, unit_length
from masks.prepared_images import Photograph
from util.distributed import rank, wait_for_all, world_size
from util.errors import UserError
from util.files import write_tensors

BACKGROUND, OBJECT = 0, 1
_ROUNDS = 8


class SuperpixelTable(NamedTuple):
    """The n superpixels of one photograph: ``features`` (n, D) means of unit-length features, ``areas`` (n,) pixels,
    ``middle`` (n,) the share of each that lies in the middle half of the photograph's width and height."""

    features: np.ndarray
    areas: np.ndarray
    middle: np.ndarray


class Objectness(NamedTuple):
    """An object is where ``direction`` (D,) float64 times a superpixel's mean feature is above ``threshold`` (1,)."""

    direction: np.ndarray
    threshold: np.ndarray


# Tables of the photographs on these rows.
Tables = Callable[[Sequence[int]], Iterable[SuperpixelTable]]


def learn_objectness(tables: Tables, rows: Sequence[int], *, share: float, folder: Path) -> Objectness:
    """What objects look like in the photographs on these rows; ``share`` of all their pixels shall be objects'.

    ``folder`` keeps the tables, so that an interrupted run goes on from there; the caller deletes it. Under torchrun
    each process makes those of its share.
    """
    own = [row for row in rows[rank() :: world_size()] if not _file(folder, row).is_file()]
    for row, table in zip(own, tables(own), strict=True):
        write_tensors(_file(folder, row), table._asdict())
    wait_for_all()
    return fit_objectness([SuperpixelTable(**load_file(_file(folder, row))) for row in rows], share=share)


def fit_objectness(tables: Sequence[SuperpixelTable], *, share: float) -> Objectness:
    """The direction from photographs to their objects, and the threshold that leaves ``share`` of all pixels above it.

    Every photograph has the same say, however large its object is; photographs without any have none. Raises
    ``UserError`` when all superpixels have the same features.
    """
    features = np.concatenate([table.features for table in tables])
    areas = np.concatenate([table.areas for table in tables])
    ends = np.cumsum([len(table.areas) for table in tables])[:-1]
    whole = np.stack([_mean(table.features, table.areas) for table in tables])
    inside = [table.middle for table in tables]
    for _ in range(_ROUNDS):
        weights = [table.areas * chosen for table, chosen in zip(tables, inside, strict=True)]
        differences = [
            _mean(table.features, weight) - mean
            for table, weight, mean in zip(tables, weights, whole, strict=True)
            if weight.any()
        ]
        direction = np.mean(differences, axis=0) if differences else np.zeros(features.shape[1])
        length = np.linalg.norm(direction)
        if length == 0:
            raise UserError("Cluster.recipe=objects: nothing in the middle of the photographs differs from the rest")
        direction /= length
        scores = features @ direction
        threshold = _weighted_quantile(scores, areas, 1 - share)
        inside = np.split((scores > threshold).astype(np.float64), ends)
    return Objectness(direction, np.array([threshold]))


def superpixel_table(photograph: Photograph, features: np.ndarray) -> SuperpixelTable:
    """``features`` (D, h, w) are the photograph's, of any length; its superpixels must be there."""
    superpixels = photograph.superpixels
    height, width = superpixels.shape
    middle = np.zeros(superpixels.shape, dtype=bool)
    middle[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    areas = np.bincount(superpixels.ravel()).astype(np.float64)
    inside = np.bincount(superpixels.ravel(), weights=middle.ravel()) / areas
    return SuperpixelTable(superpixel_means(unit_length(features), superpixels), areas, inside)


def superpixel_means(features: np.ndarray, superpixels: np.ndarray) -> np.ndarray:
    """Means over superpixels of a map enlarged to their size (bilinear, aligned corners).

    ``features`` (D, h, w); ``superpixels`` (H, W) integer 0..n-1, none empty. Returns (n, D) float32. The map is never
    enlarged: each superpixel is brought down to it by the transposed interpolation.
    """
    labels = superpixels.ravel()
    areas = np.bincount(labels)
    belongs = csr_array((1 / areas[labels], (labels, np.arange(len(labels)))), shape=(len(areas), len(labels)))
    weights = belongs @ _interpolation_of_map(features.shape[1:], superpixels.shape)  # (n, h * w)
    means: np.ndarray = weights @ features.reshape(len(features), -1).T.astype(np.float64)
    return means.astype(np.float32)


class ObjectRegions:
    """Cut each photograph into background (id 0) and at most one object (id 1), which may be in several pieces."""

    def __init__(self, features: FeatureMaps, objectness: Objectness) -> None:
        self.features = features
        self.objectness = objectness

    def extract(self, photographs: Sequence[Photograph]) -> list[Maps]:
        """The map that is scored."""
        return [(features,) for features in self.features([photograph.resized for photograph in photographs])]

    def segment(self, photograph: Photograph, maps: Maps) -> Segmentation:
        """Segment a photograph whose superpixels are there."""
        features = unit_length(maps[0])
        scores = superpixel_means(features, photograph.superpixels) @ self.objectness.direction
        labels = np.where(scores > self.objectness.threshold, OBJECT, BACKGROUND).astype(np.uint8)
        return Segmentation(labels[photograph.superpixels], features)


def _mean(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    mean: np.ndarray = weights @ features / weights.sum()
    return mean


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The smallest value that, with all smaller ones, has at least ``share`` of the weight."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order[np.searchsorted(reached, share)]])


@lru_cache(maxsize=16)
def _interpolation_of_map(source: tuple[int, int], target: tuple[int, int]) -> csr_array:
    """(H * W, h * w): what each pixel of ``target`` takes from each position of ``source``; at most four entries."""
    rows, columns = (csr_array(interpolation(*sides)) for sides in zip(source, target, strict=True))
    return csr_array(kron(rows, columns, format="csr"))


def _file(folder: Path, row: int) -> Path:
    return folder / f"{row:07d}.safetensors"
