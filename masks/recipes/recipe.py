"""What a recipe for pseudo masks is: the facts it declares, what it learns from all images, how it cuts one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from episodes.lists import ImageList
from masks.features import FeatureMaps
from masks.prepared_images import PreparedImage, SuperpixelSettings, prepare_images
from util.array_files import ArrayKind
from util.config.schema import ClusterSection, Config
from util.distributed import rank

# Feature maps of one image, (D, h, w) float32 each.
Maps = tuple[np.ndarray, ...]
# What is learnt from the images, by name; kept in the pseudo folder.
Learnt = Mapping[str, np.ndarray]


class Segmentation(NamedTuple):
    """A pseudo mask ``mask`` (H, W) uint8 of region ids, and ``features`` (D, h, w) float32 of unit length at every
    position, from which the embeddings of its regions are made."""

    mask: np.ndarray
    features: np.ndarray


class Segmenter(Protocol):
    """Cuts images into regions."""

    def extract(self, images: Sequence[PreparedImage]) -> list[Maps]:
        """Feature maps of each image."""

    def segment(self, image: PreparedImage, maps: Maps) -> Segmentation:
        """The mask of one image; called by several threads at once."""


class Recipe(ABC):
    """One way to make pseudo masks; a subclass declares these facts next to how it learns and cuts.

    Attributes:
        learns: the arrays that ``learn`` returns, as ``util.files.read_arrays`` takes them.
        stage: stage of the extractor whose features are used unless ``Cluster.stage`` names one; -1 is the last.
        keys: keys of ``Cluster`` that its masks depend on, in addition to those of every recipe (``masks.build``).
        background: the id that is never an object; None where any id may be one.
        has_clusters: whether ids are clusters of the whole dataset.
        on_corners: whether the outermost features are those of the image's corners.
    """

    learns: ClassVar[Mapping[str, ArrayKind]]
    stage: ClassVar[int]
    keys: ClassVar[tuple[str, ...]]
    background: ClassVar[int | None] = None
    has_clusters: ClassVar[bool] = False
    on_corners: ClassVar[bool] = False

    def __init__(self, config: Config, image_list: ImageList, features: FeatureMaps) -> None:
        self.config = config
        self.image_list = image_list
        self.features = features

    @staticmethod
    @abstractmethod
    def stride(cluster: ClusterSection) -> int:
        """Stride of a convolutional extractor in pixels of the resized image; ``Cluster.stride`` overrides it."""

    @abstractmethod
    def summary(self) -> str:
        """What ``learn`` learns from how many images, for the log."""

    @abstractmethod
    def learning_bytes(self) -> float:
        """About how much disk space ``learn`` takes until it has finished."""

    @abstractmethod
    def learn(self, folder: Path) -> dict[str, np.ndarray]:
        """Learn from the images, the same in every process; ``folder`` keeps the progress of an interrupted run."""

    @abstractmethod
    def segmenter(self, learnt: Learnt) -> Segmenter:
        """How images are cut afterwards."""

    def prepared_images(self, rows: Sequence[int], title: str) -> Iterator[list[PreparedImage]]:
        """Images with superpixels, a chunk at a time, under a progress bar with this title."""
        cluster = self.config.Cluster
        chunks = prepare_images(
            self.image_list,
            rows,
            size=cluster.assign_size,
            superpixels=SuperpixelSettings(
                cluster.superpixel_scale, cluster.superpixel_sigma, cluster.superpixel_min_size
            ),
            pool=self.features.pool,
            on_corners=self.on_corners,
        )
        return with_progress(chunks, len(rows), title)


def with_progress(chunks: Iterable[list[PreparedImage]], total: int, title: str) -> Iterator[list[PreparedImage]]:
    """The chunks as they are, under a progress bar; only the first of several processes draws it."""
    with tqdm(total=total, desc=title, unit="image", disable=rank() > 0) as progress:
        for images in chunks:
            yield images
            progress.update(len(images))
