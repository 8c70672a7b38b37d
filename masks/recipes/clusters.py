"""Recipe ``global``, the published one: every pixel takes the id of the nearest centroid of the whole dataset.

The centroids come from k-means over the features of all images (``masks.cluster``; docs/method.md, sections 11.2 to
11.5).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from masks.assign import centroid_scores, label_map, vote
from masks.cluster import ClusterSettings, cluster_dataset, groups_of
from masks.features import FeatureMaps, squares, unit_length
from masks.prepared_images import PreparedImage, prepare_images
from masks.recipes.recipe import Learnt, Maps, Recipe, Segmentation, with_progress
from util.array_files import ArrayKind
from util.config.schema import ClusterSection, Config

_RESNETS = ("moco", "simclr")
_PUBLISHED_STRIDE = 32
_FINE_STRIDE = 8
# Positions that the longer side must have: what 473 pixels have at stride 32.
_POSITIONS = 15
_FEATURE_BYTES = np.dtype(np.float16).itemsize


class ClusterRecipe(Recipe):
    """Clusters of all images' features."""

    learns: ClassVar[Mapping[str, ArrayKind]] = {"centroids": ("float32", 2)}
    stage = -1
    keys = ("cluster_num", "algorithm", "memory_gb", "cluster_size", "cluster_images")
    has_clusters = True

    @staticmethod
    def stride(cluster: ClusterSection) -> int:
        """32 as published, or less where images are so small that their longer side would have fewer positions."""
        if cluster.extractor in _RESNETS:
            return _PUBLISHED_STRIDE
        fitting = [stride for stride in (32, 16) if math.ceil(cluster.cluster_size / stride) >= _POSITIONS]
        return fitting[0] if fitting else _FINE_STRIDE

    def summary(self) -> str:
        groups = self._groups()
        return f"{self.config.Cluster.cluster_num} clusters of {sum(map(len, groups))} images in {len(groups)} groups"

    def learning_bytes(self) -> float:
        """The features of the largest group, which are kept at the same time."""
        extractor, cluster = self.features.extractor, self.config.Cluster
        positions = math.ceil(cluster.cluster_size / extractor.stride) ** 2
        features = positions * extractor.channels * max(map(len, self._groups()))
        return min(_FEATURE_BYTES * features, cluster.memory_gb * 1e9)

    def learn(self, folder: Path) -> dict[str, np.ndarray]:
        settings = cluster_settings(self.config)
        centroids = cluster_dataset(
            self._clustered_maps, len(self.image_list), settings, folder=folder, pool=self.features.pool
        )
        return {"centroids": centroids}

    def segmenter(self, learnt: Learnt) -> ClusterSegmenter:
        size, published = self.config.Cluster.assign_size, self.config.published
        return ClusterSegmenter(self.features, learnt["centroids"], size=size, published=published)

    def _groups(self) -> list[list[int]]:
        return groups_of(len(self.image_list), cluster_settings(self.config))

    def _clustered_maps(self, rows: Sequence[int]) -> Iterator[np.ndarray]:
        """The features that are clustered, (D, h, w) for each image."""
        size = self.config.Cluster.cluster_size
        chunks = prepare_images(self.image_list, rows, size=size, superpixels=None, pool=self.features.pool)
        for images in with_progress(chunks, len(rows), title="clustering"):
            resized = [image.resized for image in images]
            yield from comparable_maps(self.features, resized, size=size, published=self.config.published)


class ClusterSegmenter:
    """Gives every superpixel the id of the centroid that is nearest to most of its pixels.

    ``published`` stretches the scores of the padded square over the image, leaves the last superpixel at 0, and feeds
    the network values of 0..255 for the embeddings, as the published code does.
    """

    def __init__(self, features: FeatureMaps, centroids: np.ndarray, *, size: int, published: bool) -> None:
        self.features = features
        self.centroids = centroids
        self.size = size
        self.published = published

    def extract(self, images: Sequence[PreparedImage]) -> list[Maps]:
        """The map that is compared with the centroids, and the map of the whole image for the embeddings."""
        resized = [image.resized for image in images]
        compared = comparable_maps(self.features, resized, size=self.size, published=self.published)
        embedded = self.features([image.pixels for image in images], scale=255 if self.published else 1)
        return list(zip(compared, embedded, strict=True))

    def segment(self, image: PreparedImage, maps: Maps) -> Segmentation:
        """Segment an image whose ``resized`` fits ``size`` and that has superpixels."""
        compared, embedded = maps
        superpixels = image.superpixels
        nearest = label_map(centroid_scores(compared, self.centroids), *image.pixels.shape[:2])
        mask = vote(nearest, superpixels, len(self.centroids))
        if self.published:
            mask[superpixels == superpixels.max()] = 0
        return Segmentation(mask, unit_length(embedded))


def comparable_maps(
    features: FeatureMaps, resized: Sequence[np.ndarray], *, size: int, published: bool
) -> list[np.ndarray]:
    """Maps of unit length that are clustered and compared with the centroids, of the images as they are.

    ``published``: of the images padded with black to squares of ``size`` pixels, the positions of the padding included.
    """
    maps = features(squares(resized, size) if published else resized)
    return list(map(unit_length, maps))


def cluster_settings(config: Config) -> ClusterSettings:
    """What the configuration states about computing the centroids."""
    cluster = config.Cluster
    return ClusterSettings(
        cluster_num=cluster.cluster_num,
        seed=cluster.seed,
        algorithm=cluster.algorithm,
        images=cluster.cluster_images,
        memory_gb=cluster.memory_gb,
        drop_incomplete=config.published,
    )
