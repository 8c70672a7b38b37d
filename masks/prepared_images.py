"""Photographs read, reduced, resized and cut into superpixels by threads, ahead of whoever works on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from episodes.lists import ImageList
from episodes.transforms import content_size
from masks.superpixels import felzenszwalb
from util.images import read_image

# Photographs that are worked on together; the next ones are read meanwhile.
CHUNK = 32
# A larger photograph is worked on reduced, and its mask enlarged: time and memory of a 100-megapixel one stay bounded.
MOST_PIXELS = 4_000_000


@dataclass(frozen=True)
class SuperpixelSettings:
    """Parameters of ``masks.superpixels.felzenszwalb``."""

    scale: float
    sigma: float
    min_size: int


@dataclass(frozen=True)
class Photograph:
    """One photograph, ready to be worked on.

    ``row`` is its place in the list; ``size`` the file's (height, width). ``image`` (H, W, 3), of that size or reduced
    to ``MOST_PIXELS``, and ``resized`` for the extractor are RGB uint8; ``superpixels`` (H, W) int32 are the image's,
    (0, 0) where they were not asked for.
    """

    row: int
    size: tuple[int, int]
    image: np.ndarray
    resized: np.ndarray
    superpixels: np.ndarray


@contextmanager
def thread_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that each compute on one core, so that what they compute does not depend on how many there are.

    What is still waiting when the block is left, by an error or Ctrl-C, is dropped.
    """
    torch_threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    pool = ThreadPoolExecutor(workers, initializer=_use_one_core)
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(cv2_threads)


def _use_one_core() -> None:
    torch.set_num_threads(1)
    threadpool_limits(1)  # OpenMP counts for each thread on its own


def read_photographs(
    images: ImageList,
    rows: Sequence[int],
    *,
    size: int,
    superpixels: SuperpixelSettings | None,
    pool: ThreadPoolExecutor,
    on_corners: bool = False,
) -> Iterator[list[Photograph]]:
    """Yield the photographs of ``rows`` in order, ``CHUNK`` at a time, the next chunk being read meanwhile.

    ``resized`` has ``size`` as its longer side, both sides floored to a multiple of 8 (docs/method.md, section 10);
    with ``on_corners`` both are one pixel longer, so that the outermost features at stride 8 are the corners'. Raises
    ``UserError`` for a photograph that cannot be read.
    """
    read = partial(read_photograph, images, size=size, superpixels=superpixels, on_corners=on_corners)
    chunks = [[pool.submit(read, row) for row in rows[:CHUNK]]]
    for start in range(CHUNK, len(rows) + CHUNK, CHUNK):
        chunks.append([pool.submit(read, row) for row in rows[start : start + CHUNK]])
        yield [future.result() for future in chunks.pop(0)]


def read_photograph(
    images: ImageList, row: int, *, size: int, superpixels: SuperpixelSettings | None, on_corners: bool = False
) -> Photograph:
    """The photograph on this row of the list. Raises ``UserError`` when it cannot be read."""
    whole = read_image(images.image_path(row))
    image = _reduced(whole)
    height, width = content_size(image.shape[0], image.shape[1], size)
    resized = cv2.resize(image, (width + on_corners, height + on_corners), interpolation=cv2.INTER_LINEAR)
    segments = np.zeros((0, 0), dtype=np.int32)
    if superpixels is not None:
        segments = felzenszwalb(image, superpixels.scale, superpixels.sigma, superpixels.min_size)
    return Photograph(row, (whole.shape[0], whole.shape[1]), image, resized, segments)


def _reduced(image: np.ndarray) -> np.ndarray:
    share = (MOST_PIXELS / (image.shape[0] * image.shape[1])) ** 0.5
    if share >= 1:
        return image
    width, height = (max(1, int(side * share)) for side in (image.shape[1], image.shape[0]))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
