"""The command ``bash masks/create.sh ROOT DATASET [key=value ...]``: pseudo masks for every image of the train list.

ROOT holds the dataset's folder (``pascal/``, ``COCO2014/``, ``<name>/``). Settings come from an experiment's
configuration: ``experiment=NAME``, else the unsupervised one that has the ``extractor=`` given, else
``ssl_resnet50``. The same command continues an interrupted run. On several GPUs or machines

    torchrun --nproc_per_node 4 -m masks.create ROOT DATASET [key=value ...]

shares the images among the processes; the masks are the same.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from tqdm import tqdm

from episodes.lists import ImageList, read_list
from episodes.pseudo import REPORT_FILE
from masks.assign import GlobalClusters, Maps, Segmentation, comparable_maps
from masks.cluster import cluster_dataset, groups_of
from masks.features import FeatureMaps
from masks.image_clusters import ImageClusters
from masks.made import MadeMasks
from masks.photographs import Photograph, read_photographs, thread_pool
from masks.plan import log_plan
from masks.regions import region_rows
from masks.report import report, report_table
from masks.settings import (
    choose_config,
    cluster_settings,
    manifest_settings,
    output_stride,
    region_filter,
    superpixel_settings,
)
from masks.store import PseudoFolder
from model.extractors import Extractor, build_extractor
from util.device import available_cores
from util.distributed import from_first, own_device, process_group, rank, wait_for_all, world_size
from util.errors import run_command
from util.files import write_json
from util.logging import logger, start_logging
from util.schema import Config
from util.seed import numpy_random


class Recipe(Protocol):
    """A way to make pseudo masks."""

    def extract(self, photographs: Sequence[Photograph]) -> list[Maps]:
        """What the extractor has to say of each photograph."""

    def segment(self, photograph: Photograph, maps: Maps) -> Segmentation:
        """The mask of one photograph; called by several threads at once."""


def main(arguments: list[str]) -> None:
    """Read the command line, choose the configuration and make the masks."""
    parser = argparse.ArgumentParser(prog="masks/create.sh", description="Pseudo masks for the images of a train list.")
    parser.add_argument("root", type=Path, help="the folder that holds the dataset's folder")
    parser.add_argument("dataset")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="experiment=NAME, list=FILE, ...")
    parsed = parser.parse_args(arguments)
    start_logging()
    with process_group():
        create(choose_config(parsed.root, parsed.dataset, parsed.settings))


def create(config: Config) -> None:
    """Make the pseudo folder of ``config``, or what is missing of it. Raises ``UserError``."""
    images = read_list(config.DATA.train_list, config.DATA.data_root, need_labels=False)
    extractor = _extractor(config)
    folder = PseudoFolder(config.pseudo_folder, images, manifest_settings(config, images))
    if from_first(rank() == 0 and folder.open()):
        logger.info("%s is complete: %d masks", config.pseudo_folder, len(images))
    else:
        with thread_pool(_thread_count(config)) as pool:
            Creation(config, images, FeatureMaps(extractor, pool), folder).run()
        wait_for_all()
        if rank() == 0:
            folder.finish()
    report_file = config.pseudo_folder / REPORT_FILE
    if rank() == 0 and not report_file.is_file():
        figures = report(MadeMasks.load(config.pseudo_folder))  # opens no label
        write_json(report_file, figures)
        logger.info("%d masks in %s\n%s", len(images), config.pseudo_folder, report_table(figures))


class Creation:
    """One run over the images: this process's share of it."""

    def __init__(self, config: Config, images: ImageList, features: FeatureMaps, folder: PseudoFolder) -> None:
        self.config = config
        self.images = images
        self.features = features
        self.folder = folder
        self.pool = features.pool

    def run(self) -> None:
        """Say what is to be done, then do it."""
        rows = self.folder.missing_rows(part=rank(), parts=world_size())
        centroids = self.folder.load_centroids()
        needs_centroids = self.config.Cluster.recipe == "global" and centroids is None
        settings = cluster_settings(self.config)
        if rows:
            log_plan(
                self.config,
                self.images,
                rows,
                groups_of(len(self.images), settings) if needs_centroids else [],
                threads=_thread_count(self.config),
                segment=self._segment_with_random_centroids,
                extract=lambda sample: list(self.clustered_maps(sample)),
            )
        if needs_centroids:
            extract = partial(self.clustered_maps, title="clustering")
            folder = self.folder.clustering
            centroids = cluster_dataset(extract, len(self.images), settings, folder=folder, pool=self.pool)
            if rank() == 0:
                self.folder.save_centroids(centroids)
        self._make_masks(self._recipe(centroids), rows)

    def _make_masks(self, recipe: Recipe, rows: Sequence[int]) -> None:
        """Make and write the masks of ``rows``; an accelerator extracts from a chunk while the last one is finished."""
        finishing: list[Future[None]] = []
        try:
            for photographs in self._photographs(rows, title="pseudo masks"):
                pairs = zip(photographs, recipe.extract(photographs), strict=True)
                _wait_for(finishing)
                finishing = [self.pool.submit(self._finish, recipe, photograph, maps) for photograph, maps in pairs]
        finally:  # also when the next photograph cannot be read
            _wait_for(finishing)

    def _recipe(self, centroids: np.ndarray | None) -> Recipe:
        cluster = self.config.Cluster
        if centroids is None:
            return ImageClusters(self.features, objects=region_filter(self.config), seed=cluster.seed)
        return GlobalClusters(self.features, centroids, size=cluster.assign_size, published=self.config.published)

    def _photographs(self, rows: Sequence[int], title: str | None = None) -> Iterator[list[Photograph]]:
        """Photographs with superpixels, a chunk at a time, with a progress bar of this title."""
        size, superpixels = self.config.Cluster.assign_size, superpixel_settings(self.config)
        chunks = read_photographs(self.images, rows, size=size, superpixels=superpixels, pool=self.pool)
        return _with_progress(chunks, len(rows), title)

    def clustered_maps(self, rows: Sequence[int], title: str | None = None) -> Iterator[np.ndarray]:
        """The features that are clustered."""
        size = self.config.Cluster.cluster_size
        chunks = read_photographs(self.images, rows, size=size, superpixels=None, pool=self.pool)
        for photographs in _with_progress(chunks, len(rows), title):
            resized = [photograph.resized for photograph in photographs]
            yield from comparable_maps(self.features, resized, size=size, published=self.config.published)

    def _segment_with_random_centroids(self, rows: Sequence[int]) -> list[Segmentation]:
        """What takes as long as the masks of these rows, before the centroids are known."""
        cluster, channels = self.config.Cluster, self.features.extractor.channels
        centroids = numpy_random("plan").normal(size=(cluster.cluster_num, channels)).astype(np.float32)
        recipe = self._recipe(centroids if cluster.recipe == "global" else None)
        segmentations: list[Segmentation] = []
        for photographs in self._photographs(rows):
            segmentations += self.pool.map(recipe.segment, photographs, recipe.extract(photographs))
        return segmentations

    def _finish(self, recipe: Recipe, photograph: Photograph, maps: Maps) -> None:
        """Make one mask and write it."""
        segmentation = recipe.segment(photograph, maps)
        labels = segmentation.labels
        height, width = photograph.size
        regions = region_rows(
            labels,
            segmentation.features,
            row=photograph.row,
            by_id=self.config.Cluster.recipe == "global",
            objects=region_filter(self.config),
            pixel_area=height * width / labels.size,
        )
        if labels.shape != photograph.size:
            labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
        self.folder.add(photograph.row, labels, regions)


def _extractor(config: Config) -> Extractor:
    cluster = config.Cluster
    return build_extractor(
        cluster.extractor,
        weights=cluster.extractor_weights,
        normalize=cluster.extractor_normalize,
        stride=cluster.stride,
        output_stride=output_stride(config),
        flip=cluster.flip,
        scales=cluster.scales,
    ).to(own_device())


def _thread_count(config: Config) -> int:
    """Threads of this process: as asked, else its share of the cores that this machine lends us."""
    return config.Cluster.threads or max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _wait_for(futures: Iterable[Future[None]]) -> None:
    """Return when all are done. Raises what one of them raised."""
    for future in futures:
        future.result()


def _with_progress(chunks: Iterable[list[Photograph]], total: int, title: str | None) -> Iterator[list[Photograph]]:
    with tqdm(total=total, desc=title, unit="image", disable=title is None or rank() > 0) as progress:
        for photographs in chunks:
            yield photographs
            progress.update(len(photographs))


if __name__ == "__main__":
    run_command(main)
