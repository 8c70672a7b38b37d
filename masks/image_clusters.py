"""Recipe ``image``: two or three clusters of each photograph's own features, loose but on the object."""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np

from masks.assign import Maps, Segmentation, centroid_scores, label_map, vote
from masks.features import FeatureMaps, unit_length
from masks.photographs import Photograph
from masks.regions import RegionFilter, kept_regions

COMPONENTS = 16
_CLUSTER_NUMBERS = (2, 3)
_ITERATIONS = 30


class ImageClusters:
    """Cut each photograph into two clusters, or into three where two leave no region that may be an object.

    ``objects`` says what may be an object. Ids mean nothing beyond their photograph.
    """

    def __init__(self, features: FeatureMaps, *, objects: RegionFilter, seed: int) -> None:
        self.features = features
        self.objects = objects
        self.seed = seed

    def extract(self, photographs: Sequence[Photograph]) -> list[Maps]:
        """The map that is cut."""
        return [(features,) for features in self.features([photograph.resized for photograph in photographs])]

    def segment(self, photograph: Photograph, maps: Maps) -> Segmentation:
        """Segment a photograph whose superpixels are there."""
        (features,) = maps
        components = principal_components(features, COMPONENTS)
        points = components.reshape(len(components), -1).T
        for cluster_num in _CLUSTER_NUMBERS:
            centroids = kmeans(points, min(cluster_num, len(points)), self.seed)  # a sliver has few positions
            scores = centroid_scores(components, centroids)
            labels = vote(label_map(scores, *photograph.image.shape[:2]), photograph.superpixels, cluster_num)
            if kept_regions(labels, self.objects):
                break
        return Segmentation(labels, unit_length(features))


def kmeans(features: np.ndarray, cluster_num: int, seed: int) -> np.ndarray:
    """K-means on the features (N, D) float32 of one photograph, N >= cluster_num; returns (cluster_num, D) float32."""
    clustering = faiss.Kmeans(
        features.shape[1],
        cluster_num,
        niter=_ITERATIONS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(features),  # no subsampling
    )
    clustering.train(np.ascontiguousarray(features))
    return np.asarray(clustering.centroids)


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
