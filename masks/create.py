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
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from masks.cluster import cluster_dataset, groups_of, sampled_rows
from masks.features import FeatureMaps
from masks.image_clusters import ImageClusters
from masks.made import MadeMasks
from masks.objectness import Objectness, ObjectRegions, SuperpixelTable, learn_objectness, superpixel_table
from masks.photographs import Photograph, read_photographs, thread_pool
from masks.plan import Learning, cost_of_clustering, cost_of_tables, log_plan
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
        learnt = self.folder.load_learnt()
        learns = self.config.Cluster.recipe != "image" and learnt is None
        if rows:
            learning = self._learning() if learns else None
            threads = _thread_count(self.config)
            log_plan(self.config, self.images, rows, learning, threads=threads, segment=self._segment_unlearnt)
        if learns:
            learnt = self._learn()
            if rank() == 0:
                self.folder.save_learnt(learnt)
        self._make_masks(self._recipe(learnt or {}), rows)

    def _learning(self) -> Learning:
        """What is going to be learnt."""
        if self.config.Cluster.recipe == "objects":
            count = len(self._object_rows())
            cost = partial(cost_of_tables, lambda rows: list(self.superpixel_tables(rows)))
            return Learning(f"objects of {count} images", count, count, cost)
        cluster_num = self.config.Cluster.cluster_num
        groups = groups_of(len(self.images), cluster_settings(self.config))
        count = sum(map(len, groups))
        cost = partial(cost_of_clustering, lambda rows: list(self.clustered_maps(rows)), cluster_num)
        title = f"{cluster_num} clusters of {count} images in {len(groups)} groups"
        return Learning(title, count, max(map(len, groups)), cost)

    def _learn(self) -> dict[str, np.ndarray]:
        """What the recipe has to know of all photographs before it can cut one."""
        folder = self.folder.learning
        if self.config.Cluster.recipe == "objects":
            tables = partial(self.superpixel_tables, title="learning objects")
            share = self.config.Cluster.object_share
            return learn_objectness(tables, self._object_rows(), share=share, folder=folder)._asdict()
        extract = partial(self.clustered_maps, title="clustering")
        settings = cluster_settings(self.config)
        return {"centroids": cluster_dataset(extract, len(self.images), settings, folder=folder, pool=self.pool)}

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

    def _recipe(self, learnt: Mapping[str, np.ndarray]) -> Recipe:
        cluster = self.config.Cluster
        if cluster.recipe == "image":
            return ImageClusters(self.features, objects=region_filter(self.config), seed=cluster.seed)
        if cluster.recipe == "objects":
            return ObjectRegions(self.features, Objectness(**learnt))
        centroids = learnt["centroids"]
        return GlobalClusters(self.features, centroids, size=cluster.assign_size, published=self.config.published)

    def _photographs(self, rows: Sequence[int], title: str | None = None) -> Iterator[list[Photograph]]:
        """Photographs with superpixels, a chunk at a time, with a progress bar of this title."""
        cluster = self.config.Cluster
        chunks = read_photographs(
            self.images,
            rows,
            size=cluster.assign_size,
            superpixels=superpixel_settings(self.config),
            pool=self.pool,
            on_corners=cluster.recipe == "objects",
        )
        return _with_progress(chunks, len(rows), title)

    def clustered_maps(self, rows: Sequence[int], title: str | None = None) -> Iterator[np.ndarray]:
        """The features that are clustered."""
        size = self.config.Cluster.cluster_size
        chunks = read_photographs(self.images, rows, size=size, superpixels=None, pool=self.pool)
        for photographs in _with_progress(chunks, len(rows), title):
            resized = [photograph.resized for photograph in photographs]
            yield from comparable_maps(self.features, resized, size=size, published=self.config.published)

    def superpixel_tables(self, rows: Sequence[int], title: str | None = None) -> Iterator[SuperpixelTable]:
        """The superpixels that objects are learnt from."""
        for photographs in self._photographs(rows, title):
            maps = self.features([photograph.resized for photograph in photographs])
            yield from self.pool.map(superpixel_table, photographs, maps)

    def _object_rows(self) -> list[int]:
        cluster = self.config.Cluster
        return sampled_rows(len(self.images), cluster.cluster_images, cluster.seed)

    def _segment_unlearnt(self, rows: Sequence[int]) -> list[Segmentation]:
        """What takes as long as the masks of these rows, before anything is learnt."""
        channels, rng = self.features.extractor.channels, numpy_random("plan")
        centroids = rng.normal(size=(self.config.Cluster.cluster_num, channels)).astype(np.float32)
        learnt = {"direction": centroids[0], "threshold": np.zeros(1)}
        recipe = self._recipe({"centroids": centroids} if self.config.Cluster.recipe == "global" else learnt)
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
            candidates=segmentation.candidates,
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
        stage=cluster.stage,
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
