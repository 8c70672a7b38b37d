"""What a run of ``masks/create.sh`` is going to do, and about how long it will take: said before it starts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from episodes.lists import ImageList
from masks.assign import Segmentation
from masks.cluster import ITERATIONS, nearest_centroids
from masks.prepared_images import CHUNK
from masks.recipes.objects import SuperpixelTable
from util.distributed import world_size
from util.logging import logger
from util.schema import Config

# Regions that a photograph keeps, judged for the size of their embeddings.
_REGIONS = 3
_FLOAT16 = 2
Result = TypeVar("Result")


class Cost(NamedTuple):
    """Of one photograph: seconds while all threads are busy, bytes on the disk."""

    seconds: float
    size: float


class Learning(NamedTuple):
    """What is learnt from photographs before the masks can be made.

    ``photographs`` is their number, ``held`` how many of them have files at the same time, ``cost`` what some of them,
    by their rows, cost on average; the first of the rows warms up and does not count.
    """

    title: str
    photographs: int
    held: int
    cost: Callable[[Sequence[int]], Cost]


def log_plan(
    config: Config,
    images: ImageList,
    rows: Sequence[int],
    learning: Learning | None,
    *,
    threads: int,
    segment: Callable[[Sequence[int]], list[Segmentation]],
) -> None:
    """Log what is to be done, with time and disk space judged from a few photographs.

    Of ``images`` the masks of ``rows`` are missing and this process's to make; ``learning`` comes before, if anything
    is to be learnt. ``segment`` does for some rows what the run will do for all. Warns when the disk has not the space.
    """
    logger.info("pseudo masks for %d images of %s into %s", len(images), images.list_file, config.pseudo_folder)
    logger.info(
        "settings of %s: recipe %s, extractor %s; %d processes of %d threads",
        *(config.experiment, config.Cluster.recipe, config.Cluster.extractor, world_size(), threads),
    )
    sample = [rows[place] for place in np.linspace(0, len(rows) - 1, 2 * threads + 1).astype(int)]
    steps, seconds, size = [], 0.0, 0.0
    if learning is not None:
        cost = learning.cost(sample)
        steps.append(learning.title)
        seconds, size = cost.seconds * learning.photographs / world_size(), cost.size * learning.held
    cost = _cost_of_masks(*_timed(segment, sample))
    steps.append(f"{len(rows)} masks in batches of {CHUNK}")
    seconds, size = seconds + cost.seconds * len(rows), size + cost.size * len(rows) * world_size()
    logger.info(
        "%s: about %s and %.2f GB of disk", ", then ".join(steps), timedelta(seconds=round(seconds)), size / 1e9
    )
    free = shutil.disk_usage(config.pseudo_folder).free
    if free < size:
        logger.warning("%.2f GB are free there; if that is not enough, the same command continues", free / 1e9)


def cost_of_clustering(
    extract: Callable[[Sequence[int]], list[np.ndarray]], cluster_num: int, rows: Sequence[int]
) -> Cost:
    """Features are extracted once and compared with the centroids in every iteration, and summed in as long again."""
    seconds, maps = _timed(extract, rows)
    features = maps[0].reshape(len(maps[0]), -1).T
    centroids = np.ones((cluster_num, features.shape[1]), dtype=np.float32)
    start = time.monotonic()
    nearest_centroids(centroids, features)
    comparison = time.monotonic() - start
    return Cost(seconds + 2 * ITERATIONS * comparison, _FLOAT16 * features.size)


def cost_of_tables(tables: Callable[[Sequence[int]], list[SuperpixelTable]], rows: Sequence[int]) -> Cost:
    """What is learnt from the tables takes no time worth telling beside making them."""
    seconds, made = _timed(tables, rows)
    return Cost(seconds, float(np.mean([sum(column.nbytes for column in table) for table in made])))


def _timed(work: Callable[[Sequence[int]], list[Result]], sample: Sequence[int]) -> tuple[float, list[Result]]:
    """Seconds for each photograph, and the results; the first photograph warms up and does not count."""
    work(sample[:1])
    start = time.monotonic()
    results = work(sample[1:])
    return (time.monotonic() - start) / len(results), results


def _cost_of_masks(seconds: float, segmentations: Sequence[Segmentation]) -> Cost:
    files = [len(cv2.imencode(".png", segmentation.labels)[1]) for segmentation in segmentations]
    embeddings = _REGIONS * _FLOAT16 * len(segmentations[0].features)
    return Cost(seconds, float(np.mean(files)) + embeddings)
