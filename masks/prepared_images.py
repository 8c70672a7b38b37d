"""Images read, reduced, resized and cut into superpixels by threads, ahead of the code that works on them."""

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

# Images that are processed together while the next ones are read.
CHUNK = 32
# A larger image is processed at a reduced size and its mask enlarged, which bounds time and memory for one of 100
# megapixels.
_MOST_PIXELS = 4_000_000


@dataclass(frozen=True)
class SuperpixelSettings:
    """Parameters of ``masks.superpixels.felzenszwalb``."""

    scale: float
    sigma: float
    min_size: int


@dataclass(frozen=True)
class PreparedImage:
    """One image, ready to be cut into regions.

    ``row`` is its place in the list, ``size`` the (height, width) of the file. ``pixels`` (H, W, 3), of that size or
    reduced to 4 megapixels, and ``resized`` for the extractor are RGB uint8; ``superpixels`` (H, W) int32 are those
    of ``pixels``, (0, 0) where they were not requested.
    """

    row: int
    size: tuple[int, int]
    pixels: np.ndarray
    resized: np.ndarray
    superpixels: np.ndarray


@contextmanager
def thread_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that each compute on one core, so that results do not depend on their number.

    Tasks still waiting when the block is left, by an error or Ctrl-C, are dropped.
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
    threadpool_limits(1)  # OpenMP keeps a limit per thread


def prepare_images(
    image_list: ImageList,
    rows: Sequence[int],
    *,
    size: int,
    superpixels: SuperpixelSettings | None,
    pool: ThreadPoolExecutor,
    on_corners: bool = False,
) -> Iterator[list[PreparedImage]]:
    """Yield the images of ``rows`` in order, ``CHUNK`` at a time, while the next chunk is being read.

    ``resized`` has ``size`` as its longer side, both sides floored to a multiple of 8 (docs/method.md, section 10);
    with ``on_corners`` both are one pixel longer, so that the outermost features at stride 8 are those of the corners.
    Raises ``UserError`` for an image that cannot be read.
    """
    prepare = partial(prepare_image, image_list, size=size, superpixels=superpixels, on_corners=on_corners)
    chunks = [[pool.submit(prepare, row) for row in rows[:CHUNK]]]
    for start in range(CHUNK, len(rows) + CHUNK, CHUNK):
        chunks.append([pool.submit(prepare, row) for row in rows[start : start + CHUNK]])
        yield [future.result() for future in chunks.pop(0)]


def prepare_image(
    image_list: ImageList, row: int, *, size: int, superpixels: SuperpixelSettings | None, on_corners: bool = False
) -> PreparedImage:
    """The image on this row of the list. Raises ``UserError`` when it cannot be read."""
    whole = read_image(image_list.image_path(row))
    pixels = _reduced(whole)
    height, width = content_size(pixels.shape[0], pixels.shape[1], size)
    resized = cv2.resize(pixels, (width + on_corners, height + on_corners), interpolation=cv2.INTER_LINEAR)
    segments = np.zeros((0, 0), dtype=np.int32)
    if superpixels is not None:
        segments = felzenszwalb(pixels, superpixels.scale, superpixels.sigma, superpixels.min_size)
    return PreparedImage(row, (whole.shape[0], whole.shape[1]), pixels, resized, segments)


def _reduced(pixels: np.ndarray) -> np.ndarray:
    share = (_MOST_PIXELS / (pixels.shape[0] * pixels.shape[1])) ** 0.5
    if share >= 1:
        return pixels
    width, height = (max(1, int(side * share)) for side in (pixels.shape[1], pixels.shape[0]))
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
