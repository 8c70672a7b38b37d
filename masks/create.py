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
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path

import cv2

from episodes.lists import ImageList, read_list
from episodes.pseudo import REPORT_FILE
from masks.assign import Maps, Segmentation
from masks.build import choose_config, extractor_stage, manifest_settings, output_stride, region_filter
from masks.features import FeatureMaps
from masks.plan import log_plan
from masks.prepared_images import Photograph, thread_pool
from masks.pseudo_folder import PseudoFolder
from masks.pseudo_masks import MadeMasks
from masks.recipes import Segmenter, build_recipe
from masks.regions import region_rows
from masks.report import report, report_table
from model.frozen.extractors import Extractor, build_extractor
from util.device import available_cores
from util.distributed import from_first, own_device, process_group, rank, wait_for_all, world_size
from util.errors import run_command
from util.files import write_json
from util.logging import logger, start_logging
from util.schema import Config


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
            folder.finish(neighbours=config.Cluster.neighbours, device=own_device())
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
        self.recipe = build_recipe(config, images, features)
        self.pool = features.pool
        self.objects = region_filter(config)
        self.folder = folder

    def run(self) -> None:
        """Say what is to be done, then do it."""
        rows = self.folder.missing_rows(part=rank(), parts=world_size())
        learnt = self.folder.load_learnt()
        if rows:
            learning = self.recipe.learning() if learnt is None else None
            threads = _thread_count(self.config)
            log_plan(self.config, self.images, rows, learning, threads=threads, segment=self._segment_unlearnt)
        if learnt is None:
            learnt = self.recipe.learn(self.folder.learning)
            if rank() == 0:
                self.folder.save_learnt(learnt)
        self._make_masks(self.recipe.segmenter(learnt), rows)

    def _make_masks(self, segmenter: Segmenter, rows: Sequence[int]) -> None:
        """Make and write the masks of ``rows``; an accelerator extracts from a chunk while the last one is finished."""
        finishing: list[Future[None]] = []
        try:
            for photographs in self.recipe.photographs(rows, title="pseudo masks"):
                pairs = zip(photographs, segmenter.extract(photographs), strict=True)
                _wait_for(finishing)
                finishing = [self.pool.submit(self._finish, segmenter, photograph, maps) for photograph, maps in pairs]
        finally:  # also when the next photograph cannot be read
            _wait_for(finishing)

    def _finish(self, segmenter: Segmenter, photograph: Photograph, maps: Maps) -> None:
        """Make one mask and write it."""
        labels, features = segmenter.segment(photograph, maps)
        height, width = photograph.size
        pixel_area = height * width / labels.size
        regions = region_rows(labels, features, row=photograph.row, objects=self.objects, pixel_area=pixel_area)
        if labels.shape != photograph.size:
            labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
        self.folder.add(photograph.row, labels, regions)

    def _segment_unlearnt(self, rows: Sequence[int]) -> list[Segmentation]:
        """What takes as long as the masks of these rows, before anything is learnt."""
        segmenter = self.recipe.segmenter(self.recipe.unlearnt())
        segmentations: list[Segmentation] = []
        for photographs in self.recipe.photographs(rows):
            segmentations += self.pool.map(segmenter.segment, photographs, segmenter.extract(photographs))
        return segmentations


def _extractor(config: Config) -> Extractor:
    cluster = config.Cluster
    return build_extractor(
        cluster.extractor,
        weights=cluster.extractor_weights,
        normalize=cluster.extractor_normalize,
        stage=extractor_stage(config),
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


if __name__ == "__main__":
    run_command(main)
