"""The recipes for pseudo masks: what each has to learn from all photographs before it can cut one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from episodes.lists import ImageList
from masks.assign import GlobalClusters, Maps, Segmentation, comparable_maps
from masks.build import cluster_settings, superpixel_settings
from masks.cluster import cluster_dataset, groups_of, sampled_rows
from masks.features import FeatureMaps
from masks.plan import Learning, cost_of_clustering, cost_of_tables
from masks.prepared_images import Photograph, read_photographs
from masks.recipes.objects import Objectness, ObjectRegions, SuperpixelTable, learn_objectness, superpixel_table
from util.distributed import rank
from util.schema import Config
from util.seed import numpy_random

Learnt = Mapping[str, np.ndarray]
# Photographs that objects are learnt from, unless Cluster.cluster_images says otherwise: 400 serve as well.
_LEARNT_FROM = 1000


class Segmenter(Protocol):
    """Cuts photographs into regions."""

    def extract(self, photographs: Sequence[Photograph]) -> list[Maps]:
        """What the extractor has to say of each photograph."""

    def segment(self, photograph: Photograph, maps: Maps) -> Segmentation:
        """The mask of one photograph; called by several threads at once."""


class Recipe(Protocol):
    """A way to make pseudo masks."""

    def learning(self) -> Learning:
        """What ``learn`` is going to do, for the plan."""

    def learn(self, folder: Path) -> dict[str, np.ndarray]:
        """Learn from the photographs, in every process the same; ``folder`` keeps what an interrupted run has done."""

    def segmenter(self, learnt: Learnt) -> Segmenter:
        """How photographs are cut after that."""

    def unlearnt(self) -> Learnt:
        """Something that takes as long to cut by as what will be learnt."""

    def photographs(self, rows: Sequence[int], title: str | None = None) -> Iterator[list[Photograph]]:
        """Photographs ready to be cut, a chunk at a time, with a progress bar of this title."""


def build_recipe(config: Config, images: ImageList, features: FeatureMaps) -> Recipe:
    """The recipe that ``Cluster.recipe`` names."""
    recipe = ObjectRecipe if config.Cluster.recipe == "objects" else GlobalRecipe
    return recipe(config, images, features)


class _Photographs:
    """What both recipes have in common: how they come by photographs."""

    # Whether the outermost features are to be those of the photograph's corners.
    on_corners = False

    def __init__(self, config: Config, images: ImageList, features: FeatureMaps) -> None:
        self.config = config
        self.images = images
        self.features = features

    def photographs(self, rows: Sequence[int], title: str | None = None) -> Iterator[list[Photograph]]:
        """With superpixels."""
        chunks = read_photographs(
            self.images,
            rows,
            size=self.config.Cluster.assign_size,
            superpixels=superpixel_settings(self.config),
            pool=self.features.pool,
            on_corners=self.on_corners,
        )
        return _with_progress(chunks, len(rows), title)


class GlobalRecipe(_Photographs):
    """``global``: clusters of all photographs' features, as published (``masks.cluster``, ``masks.assign``)."""

    def learning(self) -> Learning:
        cluster_num = self.config.Cluster.cluster_num
        groups = groups_of(len(self.images), cluster_settings(self.config))
        count = sum(map(len, groups))
        cost = partial(cost_of_clustering, lambda rows: list(self.clustered_maps(rows)), cluster_num)
        title = f"{cluster_num} clusters of {count} images in {len(groups)} groups"
        return Learning(title, count, max(map(len, groups)), cost)

    def learn(self, folder: Path) -> dict[str, np.ndarray]:
        extract = partial(self.clustered_maps, title="clustering")
        settings = cluster_settings(self.config)
        centroids = cluster_dataset(extract, len(self.images), settings, folder=folder, pool=self.features.pool)
        return {"centroids": centroids}

    def segmenter(self, learnt: Learnt) -> GlobalClusters:
        size, published = self.config.Cluster.assign_size, self.config.published
        return GlobalClusters(self.features, learnt["centroids"], size=size, published=published)

    def unlearnt(self) -> Learnt:
        shape = (self.config.Cluster.cluster_num, self.features.extractor.channels)
        return {"centroids": numpy_random("plan").normal(size=shape).astype(np.float32)}

    def clustered_maps(self, rows: Sequence[int], title: str | None = None) -> Iterator[np.ndarray]:
        """The features that are clustered, (D, h, w) for each photograph."""
        size = self.config.Cluster.cluster_size
        chunks = read_photographs(self.images, rows, size=size, superpixels=None, pool=self.features.pool)
        for photographs in _with_progress(chunks, len(rows), title):
            resized = [photograph.resized for photograph in photographs]
            yield from comparable_maps(self.features, resized, size=size, published=self.config.published)


class ObjectRecipe(_Photographs):
    """``objects``: what the middle of photographs has and the rest of them has not (``masks.recipes.objects``)."""

    on_corners = True

    def learning(self) -> Learning:
        count = len(self._learnt_from())
        cost = partial(cost_of_tables, lambda rows: list(self._tables(rows)))
        return Learning(f"objects of {count} images", count, count, cost)

    def learn(self, folder: Path) -> dict[str, np.ndarray]:
        tables = partial(self._tables, title="learning objects")
        share = self.config.Cluster.object_share
        return learn_objectness(tables, self._learnt_from(), share=share, folder=folder)._asdict()

    def segmenter(self, learnt: Learnt) -> ObjectRegions:
        return ObjectRegions(self.features, Objectness(**learnt))

    def unlearnt(self) -> Learnt:
        return Objectness(numpy_random("plan").normal(size=self.features.extractor.channels), np.zeros(1))._asdict()

    def _tables(self, rows: Sequence[int], title: str | None = None) -> Iterator[SuperpixelTable]:
        for photographs in self.photographs(rows, title):
            maps = self.features([photograph.resized for photograph in photographs])
            yield from self.features.pool.map(superpixel_table, photographs, maps)

    def _learnt_from(self) -> list[int]:
        cluster = self.config.Cluster
        return sampled_rows(len(self.images), cluster.cluster_images or _LEARNT_FROM, cluster.seed)


def _with_progress(chunks: Iterable[list[Photograph]], total: int, title: str | None) -> Iterator[list[Photograph]]:
    with tqdm(total=total, desc=title, unit="image", disable=title is None or rank() > 0) as progress:
        for photographs in chunks:
            yield photographs
            progress.update(len(photographs))
