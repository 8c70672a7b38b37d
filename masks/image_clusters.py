"""Recipe ``image``: two or three clusters of each photograph's own features, loose but on the object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from masks.assign import Segmentation, centroid_scores, label_map, vote
from masks.cluster import kmeans
from masks.photographs import Photograph, feature_maps, unit_length
from masks.regions import RegionRule, kept_regions
from model.extractors import Extractor

COMPONENTS = 16
_CLUSTER_NUMBERS = (2, 3)


class ImageClusters:
    """Cut each photograph into two clusters, or into three where two leave no region that may be an object.

    ``min_area`` and ``rule`` say what may be an object, as in ``masks.regions.kept_regions``. Ids mean nothing
    beyond their photograph.
    """

    def __init__(self, extractor: Extractor, *, min_area: int, rule: RegionRule, seed: int) -> None:
        self.extractor = extractor
        self.min_area = min_area
        self.rule: RegionRule = rule
        self.seed = seed

    def segment(self, photographs: Sequence[Photograph]) -> list[Segmentation]:
        """Segment photographs whose superpixels are there."""
        maps = feature_maps(self.extractor, [photograph.resized for photograph in photographs])
        return [
            Segmentation(self._labels(photograph, features), unit_length(features))
            for photograph, features in zip(photographs, maps, strict=True)
        ]

    def _labels(self, photograph: Photograph, features: np.ndarray) -> np.ndarray:
        components = principal_components(features, COMPONENTS)
        points = components.reshape(len(components), -1).T
        for cluster_num in _CLUSTER_NUMBERS:
            scores = centroid_scores(components, kmeans(points, cluster_num, self.seed))
            pixels = label_map(scores, *photograph.image.shape[:2])
            labels = vote(pixels, photograph.superpixels, cluster_num)
            if kept_regions(labels, min_area=self.min_area, rule=self.rule):
                break
        return labels


def principal_components(features: np.ndarray, count: int) -> np.ndarray:
    """The strongest directions within one map: (D, h, w) -> (count, h, w) float32, strongest first.

    Every channel is centred over the map and every position brought to unit length before the analysis.
    """
    centred = unit_length(features - features.mean(axis=(1, 2), keepdims=True))
    rows = centred.reshape(len(features), -1).T
    rows = rows - rows.mean(axis=0)
    _, directions = np.linalg.eigh(rows.T @ rows)  # strongest last
    strongest = directions[:, ::-1][:, :count]
    components: np.ndarray = (rows @ strongest).T.reshape(-1, *features.shape[1:])
    return components
