"""Recipe ``objects``: what distinguishes the middle of images from the rest of them, learnt from all images.

An object tends to lie in the middle of its image, in front of what surrounds it. A single image says little about
which of its features belong to the object, but averaged over hundreds of images the features of the middle minus those
of the whole image give a direction in feature space that points from grass, sky and walls to animals and vehicles. The
superpixels that lie furthest along it are the objects. Taken in place of the middle they give a better direction, and
after a few rounds the same superpixels come out again. No label is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from safetensors.numpy import load_file
from scipy.sparse import csr_array, kron

from masks.cluster import sampled_rows
from masks.features import FeatureMaps, interpolation, unit_length
from masks.prepared_images import PreparedImage
from masks.recipes.recipe import Learnt, Maps, Recipe, Segmentation
from util.array_files import ArrayKind, read_left_over, write_tensors
from util.config.schema import ClusterSection
from util.distributed import rank, wait_for_all, world_size
from util.errors import UserError

BACKGROUND, OBJECT = 0, 1
_ROUNDS = 8
_STRIDE = 8  # objects need many positions
# Images that objects are learnt from, unless Cluster.cluster_images gives a number; 400 are enough (docs/recipe.md).
_LEARNT_FROM = 1000
# Estimated number of superpixels in an image.
_SUPERPIXELS = 100


class ObjectRecipe(Recipe):
    """One object per image at most, in any number of pieces."""

    learns: ClassVar[Mapping[str, ArrayKind]] = {"direction": ("float64", 1), "threshold": ("float64", 1)}
    stage = -2  # distinguishes objects from their surroundings better than the last (docs/recipe.md)
    keys = ("object_share", "cluster_images")
    background = BACKGROUND
    on_corners = True

    @staticmethod
    def stride(cluster: ClusterSection) -> int:
        return _STRIDE

    def summary(self) -> str:
        return f"objects of {len(self._learnt_from())} images"

    def learning_bytes(self) -> float:
        """The tables of all images."""
        feature_bytes = self.features.extractor.channels * np.dtype(np.float32).itemsize
        return len(self._learnt_from()) * _SUPERPIXELS * feature_bytes

    def learn(self, folder: Path) -> dict[str, np.ndarray]:
        share = self.config.Cluster.object_share
        return learn_objectness(self._tables, self._learnt_from(), share=share, folder=folder)._asdict()

    def segmenter(self, learnt: Learnt) -> ObjectSegmenter:
        return ObjectSegmenter(self.features, Objectness(**learnt))

    def _tables(self, rows: Sequence[int]) -> Iterator[SuperpixelTable]:
        for images in self.prepared_images(rows, title="learning objects"):
            maps = self.features([image.resized for image in images])
            yield from self.features.pool.map(superpixel_table, images, maps)

    def _learnt_from(self) -> list[int]:
        cluster = self.config.Cluster
        return sampled_rows(len(self.image_list), cluster.cluster_images or _LEARNT_FROM, cluster.seed)


class SuperpixelTable(NamedTuple):
    """The n superpixels of one image: ``features`` (n, D) means of unit-length features, ``areas`` (n,) pixels,
    ``middle`` (n,) the share of each that lies in the middle half of the image's width and height."""

    features: np.ndarray
    areas: np.ndarray
    middle: np.ndarray


_TABLE_KINDS = {"features": ("float32", 2), "areas": ("float64", 1), "middle": ("float64", 1)}


class Objectness(NamedTuple):
    """An object is where ``direction`` (D,) float64 times a superpixel's mean feature is above ``threshold`` (1,)."""

    direction: np.ndarray
    threshold: np.ndarray


# Tables of the images on these rows.
Tables = Callable[[Sequence[int]], Iterable[SuperpixelTable]]


def learn_objectness(tables: Tables, rows: Sequence[int], *, share: float, folder: Path) -> Objectness:
    """Learn from the images on these rows what objects look like; ``share`` of all their pixels become object.

    ``folder`` keeps the tables, so that an interrupted run continues from there; the caller deletes it. Under torchrun
    each process makes its share of them.
    """
    own = [row for row in rows[rank() :: world_size()] if read_left_over(_file(folder, row), _TABLE_KINDS) is None]
    for row, table in zip(own, tables(own), strict=True):
        write_tensors(_file(folder, row), table._asdict())
    wait_for_all()
    return fit_objectness([SuperpixelTable(**load_file(_file(folder, row))) for row in rows], share=share)


def fit_objectness(tables: Sequence[SuperpixelTable], *, share: float) -> Objectness:
    """The direction from images to their objects, and the threshold that leaves ``share`` of all pixels above it.

    Every image counts equally, however large its object is; images without an object do not count. Raises
    ``UserError`` when all superpixels have the same features or none is object.
    """
    features = np.concatenate([table.features for table in tables])
    areas = np.concatenate([table.areas for table in tables])
    ends = np.cumsum([len(table.areas) for table in tables])[:-1]
    whole = np.stack([_mean(table.features, table.areas) for table in tables])
    inside = [table.middle for table in tables]  # the first guess of where objects are
    for _ in range(_ROUNDS):
        # The direction: objects minus whole images, averaged over the images that have an object.
        weights = [table.areas * chosen for table, chosen in zip(tables, inside, strict=True)]
        differences = [
            _mean(table.features, weight) - mean
            for table, weight, mean in zip(tables, weights, whole, strict=True)
            if weight.any()
        ]
        if not differences:
            raise UserError(f"Cluster.object_share={share}: so small that no superpixel is object; raise it")
        direction = np.mean(differences, axis=0)
        length = np.linalg.norm(direction)
        if length == 0:
            raise UserError("Cluster.recipe=objects: nothing distinguishes the middle of the images from the rest")
        direction /= length
        # The threshold, and with it the next guess.
        scores = features @ direction
        threshold = _weighted_quantile(scores, areas, 1 - share)
        inside = np.split((scores > threshold).astype(np.float64), ends)
    return Objectness(direction, np.array([threshold]))


def superpixel_table(image: PreparedImage, features: np.ndarray) -> SuperpixelTable:
    """The table of an image that has superpixels, from its ``features`` (D, h, w) of any length."""
    superpixels = image.superpixels
    height, width = superpixels.shape
    middle = np.zeros(superpixels.shape, dtype=bool)
    middle[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    areas = np.bincount(superpixels.ravel()).astype(np.float64)
    inside = np.bincount(superpixels.ravel(), weights=middle.ravel()) / areas
    return SuperpixelTable(superpixel_means(unit_length(features), superpixels), areas, inside)


def superpixel_means(features: np.ndarray, superpixels: np.ndarray) -> np.ndarray:
    """Means over superpixels of a map enlarged to their size (bilinear, aligned corners).

    ``features`` (D, h, w); ``superpixels`` (H, W) integer 0..n-1, none empty. Returns (n, D) float32. The map is never
    enlarged: each superpixel is reduced to its resolution by the transposed interpolation.
    """
    labels = superpixels.ravel()
    areas = np.bincount(labels)
    belongs = csr_array((1 / areas[labels], (labels, np.arange(len(labels)))), shape=(len(areas), len(labels)))
    weights = belongs @ _interpolation_of_map(features.shape[1:], superpixels.shape)  # (n, h * w)
    means: np.ndarray = weights @ features.reshape(len(features), -1).T.astype(np.float64)
    return means.astype(np.float32)


class ObjectSegmenter:
    """Cuts each image into background (id 0) and at most one object (id 1), which may be in several pieces."""

    def __init__(self, features: FeatureMaps, objectness: Objectness) -> None:
        self.features = features
        self.objectness = objectness

    def extract(self, images: Sequence[PreparedImage]) -> list[Maps]:
        """The map that is scored."""
        return [(features,) for features in self.features([image.resized for image in images])]

    def segment(self, image: PreparedImage, maps: Maps) -> Segmentation:
        """Segment an image that has superpixels."""
        features = unit_length(maps[0])
        scores = superpixel_means(features, image.superpixels) @ self.objectness.direction
        ids = np.where(scores > self.objectness.threshold, OBJECT, BACKGROUND).astype(np.uint8)
        return Segmentation(ids[image.superpixels], features)


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
