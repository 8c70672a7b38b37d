"""The command ``bash masks/create.sh ROOT DATASET [key=value ...]``: pseudo masks for every image of the train list.

ROOT holds the dataset's folder (``pascal/``, ``COCO2014/``, ``<name>/``). Settings come from an experiment's
configuration: ``experiment=NAME``, else the unsupervised one that has the ``extractor=`` given, else
``ssl_resnet50``. The same command continues an interrupted run.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Protocol

import torch
from threadpoolctl import threadpool_limits

from episodes.lists import ImageList, read_list
from masks.assign import GlobalClusters, Segmentation
from masks.cluster import cluster_dataset
from masks.image_clusters import ImageClusters
from masks.photographs import Photograph, SuperpixelSettings, load_photographs
from masks.regions import region_rows
from masks.settings import choose_config, manifest_settings, output_stride
from masks.store import PseudoFolder
from model.extractors import Extractor, build_extractor
from util.errors import run_command
from util.logging import logger, start_logging
from util.schema import Config


class Recipe(Protocol):
    """A way to make pseudo masks."""

    def segment(self, photographs: list[Photograph]) -> list[Segmentation]: ...


def main(arguments: list[str]) -> None:
    """Read the command line, choose the configuration and make the masks."""
    parser = argparse.ArgumentParser(prog="masks/create.sh", description="Pseudo masks for the images of a train list.")
    parser.add_argument("root", type=Path, help="the folder that holds the dataset's folder")
    parser.add_argument("dataset")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="experiment=NAME, list=FILE, ...")
    parsed = parser.parse_args(arguments)
    start_logging()
    create(choose_config(parsed.root, parsed.dataset, parsed.settings))


def create(config: Config) -> None:
    """Make the pseudo folder of ``config``, or what is missing of it. Raises ``UserError``."""
    images = read_list(config.DATA.train_list, config.DATA.data_root, need_labels=False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    extractor = build_extractor(
        config.Cluster.extractor,
        weights=config.Cluster.extractor_weights,
        normalize=config.Cluster.extractor_normalize,
        output_stride=output_stride(config),
    ).to(device)
    folder = PseudoFolder(config.pseudo_folder, images, manifest_settings(config, images))
    if folder.open():
        logger.info("%s is complete: %d masks", config.pseudo_folder, len(images))
        return
    rows = folder.missing_rows()
    _log_plan(config, images, device=device, done=len(images) - len(rows))
    # Threads that wait for cores which the workers hold cost more than they bring.
    with threadpool_limits(max(1, (os.cpu_count() or 1) - config.TRAIN.workers)):
        _fill(folder, _recipe(config, extractor, images, folder), images, rows, config)
    regions = folder.finish()
    without = len(images) - len(set(regions["image"].tolist()))
    logger.info("%d masks with %d regions in %s", len(images), len(regions["image"]), config.pseudo_folder)
    logger.info("%d images have no region that may be an object", without)


def _log_plan(config: Config, images: ImageList, *, device: torch.device, done: int) -> None:
    cluster = config.Cluster
    logger.info("pseudo masks for %d images of %s, %d of them done", len(images), config.DATA.train_list, done)
    logger.info(
        "settings of %s: recipe %s, extractor %s, on %s", config.experiment, cluster.recipe, cluster.extractor, device
    )
    logger.info("into %s", config.pseudo_folder)


def _recipe(config: Config, extractor: Extractor, images: ImageList, folder: PseudoFolder) -> Recipe:
    cluster = config.Cluster
    if cluster.recipe == "image":
        return ImageClusters(extractor, min_area=config.DATA.min_area, rule=cluster.region_rule, seed=cluster.seed)
    published = config.TRAIN.compat == "published"
    centroids = folder.load_centroids()
    if centroids is None:
        centroids = cluster_dataset(
            extractor,
            images,
            cluster_num=cluster.cluster_num,
            size=cluster.cluster_size,
            limit=cluster.cluster_images,
            seed=cluster.seed,
            workers=config.TRAIN.workers,
            published=published,
        )
        folder.save_centroids(centroids)
    return GlobalClusters(extractor, centroids, size=cluster.assign_size, published=published)


def _fill(folder: PseudoFolder, recipe: Recipe, images: ImageList, rows: list[int], config: Config) -> None:
    cluster = config.Cluster
    batches = load_photographs(
        images,
        rows,
        size=cluster.assign_size,
        superpixels=SuperpixelSettings(cluster.superpixel_scale, cluster.superpixel_sigma, cluster.superpixel_min_size),
        workers=config.TRAIN.workers,
        title="pseudo masks",
    )
    for photographs in batches:
        for photograph, segmentation in zip(photographs, recipe.segment(photographs), strict=True):
            regions = region_rows(
                segmentation.labels,
                segmentation.features,
                row=photograph.row,
                by_id=cluster.recipe == "global",
                min_area=config.DATA.min_area,
                rule=cluster.region_rule,
            )
            folder.add(photograph.row, segmentation.labels, regions)


if __name__ == "__main__":
    run_command(main)
