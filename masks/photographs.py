"""Photographs read, resized and cut into superpixels by worker processes, and the features of batches of them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from episodes.lists import ImageList
from episodes.transforms import content_size
from masks.superpixels import felzenszwalb
from model.extractors import Extractor
from util.errors import UserError
from util.images import read_image

# Photographs that go through the extractor together where they have the same size.
BATCH = 8
_SHORTEST = 1e-12


@dataclass(frozen=True)
class SuperpixelSettings:
    """Parameters of ``masks.superpixels.felzenszwalb``."""

    scale: float
    sigma: float
    min_size: int


@dataclass(frozen=True)
class Photograph:
    """One photograph, as a worker hands it over.

    ``row`` is its place in the list; ``image`` (H, W, 3) and ``resized`` for the extractor are RGB uint8;
    ``superpixels`` (H, W) int32, or (0, 0) where they were not asked for.
    """

    row: int
    image: np.ndarray
    resized: np.ndarray
    superpixels: np.ndarray


class _Photographs(Dataset[Photograph | UserError]):
    """Errors are returned, not raised: a worker would bury the one line in its traceback."""

    def __init__(
        self, images: ImageList, rows: Sequence[int], *, size: int, superpixels: SuperpixelSettings | None
    ) -> None:
        self.images = images
        self.rows = rows
        self.size = size
        self.superpixels = superpixels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Photograph | UserError:
        row = self.rows[index]
        try:
            image = read_image(self.images.image_path(row))
        except UserError as error:
            return error
        height, width = content_size(image.shape[0], image.shape[1], self.size)
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        return Photograph(row, image, resized, self._superpixels(image))

    def _superpixels(self, image: np.ndarray) -> np.ndarray:
        if self.superpixels is None:
            return np.zeros((0, 0), dtype=np.int32)
        return felzenszwalb(image, self.superpixels.scale, self.superpixels.sigma, self.superpixels.min_size)


def load_photographs(
    images: ImageList,
    rows: Sequence[int],
    *,
    size: int,
    superpixels: SuperpixelSettings | None,
    workers: int,
    title: str,
) -> Iterator[list[Photograph]]:
    """Yield the photographs of ``rows`` in order, ``BATCH`` at a time, with a progress bar called ``title``.

    ``resized`` has ``size`` as its longer side, both sides floored to a multiple of 8 (SPEC section 10). Raises
    ``UserError`` for a photograph that cannot be read.
    """
    dataset = _Photographs(images, rows, size=size, superpixels=superpixels)
    loader = DataLoader(
        dataset, batch_size=BATCH, num_workers=workers, collate_fn=list, worker_init_fn=_end_with_parent
    )
    with tqdm(total=len(rows), desc=title, unit="image") as progress:
        for batch in loader:
            for item in batch:
                if isinstance(item, UserError):
                    raise item
            yield batch
            progress.update(len(batch))


def _end_with_parent(worker: int) -> None:
    """Let a worker end when the main process was killed: with a result nobody fetches it would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name=f"parent of worker {worker}", daemon=True).start()


def feature_maps(extractor: Extractor, images: Sequence[np.ndarray], *, scale: float = 1.0) -> list[np.ndarray]:
    """Features of images (H, W, 3) uint8 of any sizes, (D, h, w) float32 each.

    The extractor sees the values times ``scale`` / 255. Neighbours of equal size go through it together.
    """
    device = extractor.mean.device
    features: list[np.ndarray] = []
    start = 0
    while start < len(images):
        stop = start + 1
        while stop < len(images) and images[stop].shape == images[start].shape:
            stop += 1
        pixels = torch.from_numpy(np.stack(images[start:stop])).to(device).permute(0, 3, 1, 2)
        features.extend(extractor(pixels.float() * (scale / 255)).cpu().numpy())
        start = stop
    return features


def unit_length(features: np.ndarray) -> np.ndarray:
    """Scale every position of a map (D, h, w) to unit length; a position of zeros stays."""
    lengths = np.linalg.norm(features, axis=0, keepdims=True)
    scaled: np.ndarray = features / np.maximum(lengths, _SHORTEST)
    return scaled


def square_feature_maps(
    extractor: Extractor, images: Sequence[np.ndarray], *, size: int, keep_padding: bool
) -> list[np.ndarray]:
    """Features of images padded below and right with black to squares of ``size`` pixels, of unit length everywhere.

    Unless ``keep_padding``, positions whose centre lies in the padding are cut off again.
    """
    squares = [_pad(image, size) for image in images]
    maps = [unit_length(features) for features in feature_maps(extractor, squares)]
    if keep_padding:
        return maps
    contents = [[-(-side // extractor.stride) for side in image.shape[:2]] for image in images]
    return [features[:, :rows, :columns] for features, (rows, columns) in zip(maps, contents, strict=True)]


def _pad(image: np.ndarray, size: int) -> np.ndarray:
    square = np.zeros((size, size, 3), dtype=np.uint8)
    square[: image.shape[0], : image.shape[1]] = image
    return square
