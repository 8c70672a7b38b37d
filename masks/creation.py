"""Making pseudo masks: this process's share of the images, and what the first process does for all."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import Future

import cv2

from episodes.build import no_labels
from episodes.lists import ImageList, read_list
from masks.build import configured_extractor, manifest_settings, region_filter
from masks.features import FeatureMaps
from masks.prepared_images import PreparedImage, thread_pool
from masks.pseudo_folder import PseudoFolder
from masks.pseudo_masks import PseudoMasks
from masks.recipes import find_recipe
from masks.recipes.recipe import Maps, Segmenter
from masks.regions import region_rows
from masks.report.measurement import report, report_table
from masks.report.sheet import SHEET, save_sheets
from model.frozen.extractors import Extractor
from util.config.schema import Config
from util.device import memory_for
from util.distributed import (
    from_first,
    local_world_size,
    only_group_in,
    own_device,
    rank,
    wait_for_all,
    world_size,
)
from util.errors import UserError
from util.files import write_json
from util.logging import logger
from util.processes import available_cores

# Estimates for the disk space of an image: its mask, regions that it keeps, a number of their embeddings.
_MASK_BYTES = 3000
_REGIONS = 3
_FLOAT16_BYTES = 2


def create(config: Config) -> None:
    """Make the pseudo folder of ``config``, or what is missing of it; opens no label. Raises ``UserError``."""
    images = read_list(config.DATA.train_list, config.DATA.data_root, need_labels=False)
    with no_labels(config, images):
        _create(config, images)


def _create(config: Config, images: ImageList) -> None:
    settings = manifest_settings(config, images)
    extractor = configured_extractor(config).to(own_device())
    folder = PseudoFolder(config.pseudo_folder, images, settings)
    if from_first(rank() == 0 and folder.is_complete()):
        logger.info("%s is complete: %d masks", config.pseudo_folder, len(images))
    else:
        with only_group_in(config.pseudo_folder):
            _make(config, images, extractor, folder)
    if rank() == 0 and not folder.files.report.is_file():
        masks = PseudoMasks.load(config.pseudo_folder)
        metrics = report(masks)
        write_json(folder.files.report, metrics)
        _save_sheets(config, masks, images)
        logger.info("%d masks in %s\n%s", len(images), config.pseudo_folder, report_table(metrics))


def _save_sheets(config: Config, masks: PseudoMasks, images: ImageList) -> None:
    """Examples for the eye, without labels; masks that are complete need none."""
    try:
        with thread_pool(1):  # starts no threads of OpenCV, for which a process that is forked later would wait
            save_sheets(masks, masks.in_this_order(images), [None] * len(images), seed=config.Cluster.seed)
    except UserError as error:
        logger.warning("WARNING: no %s: %s", SHEET, error)


def _make(config: Config, images: ImageList, extractor: Extractor, folder: PseudoFolder) -> None:
    """Make all that is missing; every process does its share."""
    if rank() == 0:
        folder.start()
    wait_for_all()
    keys = "Cluster.threads, or Cluster.cluster_size and Cluster.assign_size"
    with memory_for(keys), thread_pool(_thread_count(config)) as pool:
        Creation(config, images, FeatureMaps(extractor, pool), folder).run()
    wait_for_all()
    if rank() == 0:
        folder.finish(neighbours=config.Cluster.neighbours, device=own_device())


class Creation:
    """One run over the images: this process's share of it."""

    def __init__(self, config: Config, images: ImageList, features: FeatureMaps, folder: PseudoFolder) -> None:
        self.config = config
        self.images = images
        self.features = features
        self.recipe = find_recipe(config.Cluster.recipe)(config, images, features)
        self.objects = region_filter(config)
        self.folder = folder

    def run(self) -> None:
        """Learn what the recipe needs unless an earlier run has, then make the missing masks."""
        rows = self.folder.missing_rows(part=rank(), parts=world_size())
        learnt = self.folder.load_learnt(self.recipe.learns)
        if rows:
            self._log_plan(rows, learns=learnt is None)
        if learnt is None:
            learnt = self.recipe.learn(self.folder.learning)
            if rank() == 0:
                self.folder.save_learnt(learnt)
        self._make_masks(self.recipe.segmenter(learnt), rows)

    def _log_plan(self, rows: Sequence[int], *, learns: bool) -> None:
        """Log what is to be done and the disk space that it takes; warn when disk space is insufficient."""
        config, images = self.config, self.images
        logger.info("pseudo masks for %d images of %s into %s", len(images), images.list_file, config.pseudo_folder)
        logger.info(
            "settings of %s: recipe %s, extractor %s; processes: %d with %d threads",
            *(config.experiment, config.Cluster.recipe, config.Cluster.extractor),
            *(world_size(), _thread_count(config)),
        )
        embedding_bytes = _REGIONS * _FLOAT16_BYTES * self.features.extractor.channels
        size = float((_MASK_BYTES + embedding_bytes) * len(rows) * world_size())
        size += self.recipe.learning_bytes() if learns else 0
        steps = [*([self.recipe.summary()] if learns else []), f"{len(rows)} masks"]
        logger.info("%s: about %.2f GB of disk space", ", then ".join(steps), size / 1e9)
        free = shutil.disk_usage(config.pseudo_folder).free
        if free < size:
            advice = "if the disk fills up, free some space and run the same command again"
            logger.warning("%.2f GB are free there; %s", free / 1e9, advice)

    def _make_masks(self, segmenter: Segmenter, rows: Sequence[int]) -> None:
        """Make and write the masks of ``rows``; features of a chunk are extracted while the one before is finished."""
        finishing: list[Future[None]] = []
        try:
            for images in self.recipe.prepared_images(rows, title="pseudo masks"):
                pairs = zip(images, segmenter.extract(images), strict=True)
                _wait_for(finishing)
                finishing = [self.features.pool.submit(self._finish, segmenter, image, maps) for image, maps in pairs]
        finally:  # also when the next image cannot be read
            _wait_for(finishing)

    def _finish(self, segmenter: Segmenter, image: PreparedImage, maps: Maps) -> None:
        """Make one mask and write it."""
        mask, features = segmenter.segment(image, maps)
        height, width = image.size
        regions = region_rows(
            mask, features, row=image.row, objects=self.objects, pixel_area=height * width / mask.size
        )
        if mask.shape != image.size:
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        self.folder.add(image.row, mask, regions)


def _thread_count(config: Config) -> int:
    """Threads of this process: as configured, else its share of the cores that the process may use."""
    return config.Cluster.threads or max(1, available_cores() // local_world_size())


def _wait_for(futures: Iterable[Future[None]]) -> None:
    """Return when all are done. Raises what one of them raised."""
    for future in futures:
        future.result()
