"""Two random views of an image as in MoCo-v2: crop, colour jitter, grey, blur, flip.

All changes of colour are one affine map of RGB space per view, so that a view costs half a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from episodes.closed_labels import in_worker
from episodes.loader_workers import read_batches, shared, start_worker
from util.distributed import rank, world_size
from util.errors import UserError
from util.seed import numpy_random, torch_random

_CROP_AREA = (0.2, 1.0)
_CROP_LOG_RATIO = (math.log(3 / 4), math.log(4 / 3))
_BRIGHTNESS = _CONTRAST = _SATURATION = 0.4
_HUE = 0.1
_BLUR_SIGMA = (0.1, 2.0)
_BLUR_SIZE = 224  # the view size that MoCo-v2's sigmas are meant for

_GREY = np.array([0.299, 0.587, 0.114])
_YIQ = np.array([_GREY, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


class TwoViews(Dataset[Tensor | UserError]):
    """Two views of an image; they depend on (images, seed, epoch, index) alone.

    ``images`` holds RGB uint8 arrays (H, W, 3) of any size, ``size`` is the side of a view in pixels.
    """

    def __init__(self, images: Sequence[np.ndarray], *, size: int, seed: int) -> None:
        self.images = images
        self.size = size
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Tensor | UserError:
        """The views of the image at ``key`` = (epoch, index), uint8 (2, size, size, 3).

        The error of an unreadable image is returned, not raised: a worker would bury the one line in its traceback.
        """
        epoch, index = key
        random = numpy_random(self.seed, "views", epoch, index)
        try:
            image = self.images[index]
        except UserError as error:
            return error
        return torch.from_numpy(np.stack([draw_view(image, self.size, random) for _ in range(2)]))


class ViewLoader:
    """One epoch of views: uint8 batches (B / world size, 2, size, size, 3) of all images, shuffled.

    Each process gets its share of every batch of B: concatenated in rank order the shares are the batches of a single
    process. An incomplete batch is left out. The number of ``workers`` changes no batch. Raises what
    ``read_batches`` raises.
    """

    def __init__(self, views: TwoViews, *, epoch: int, batch: int, workers: int) -> None:
        order = numpy_random(views.seed, "order", epoch).permutation(len(views))
        share = batch // world_size()
        starts = range(rank() * share, len(order) // batch * batch, batch)
        batches: Any = [[(epoch, int(index)) for index in order[start : start + share]] for start in starts]
        self._loader = DataLoader(
            views,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_collate_or_error,
            worker_init_fn=in_worker(start_worker),
            generator=torch_random("views"),
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Tensor]:
        yield from read_batches(self._loader, "--workers")


def _collate_or_error(items: Sequence[Tensor | UserError]) -> Tensor | UserError:
    errors = [item for item in items if isinstance(item, UserError)]
    return errors[0] if errors else shared(default_collate(list(items)))


def draw_view(image: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """One augmented view, RGB uint8 (size, size, 3), of ``image``, RGB uint8 (H, W, 3)."""
    view = _random_crop(image, size, random)
    colours = np.eye(4)
    if random.random() < 0.8:
        colours = _jitter(view.mean(axis=(0, 1)), random)
    if random.random() < 0.2:
        colours = _saturate(0.0) @ colours
    view = cv2.transform(view, colours[:3])
    if random.random() < 0.5:
        view = cv2.GaussianBlur(view, (0, 0), sigmaX=random.uniform(*_BLUR_SIGMA) * size / _BLUR_SIZE)
    return view[:, ::-1] if random.random() < 0.5 else view


def _random_crop(image: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """A box of random area and aspect ratio, resized to a square."""
    height, width = image.shape[:2]
    for _ in range(10):
        area = height * width * random.uniform(*_CROP_AREA)
        ratio = math.exp(random.uniform(*_CROP_LOG_RATIO))
        box_height, box_width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < box_height <= height and 0 < box_width <= width:
            break
    else:
        box_height = box_width = min(height, width)
    top, left = random.integers(height - box_height + 1), random.integers(width - box_width + 1)
    box = image[top : top + box_height, left : left + box_width]
    shrinks = box_height > size and box_width > size
    return cv2.resize(box, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _jitter(mean_colour: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation and hue in random order, as one map (4, 4) of (red, green, blue, 1)."""
    colours = np.eye(4)
    for step in random.permutation(4):
        if step == 0:
            brightness = random.uniform(1 - _BRIGHTNESS, 1 + _BRIGHTNESS)
            change = np.diag([brightness, brightness, brightness, 1.0])
        elif step == 1:
            grey = _GREY @ (colours @ [*mean_colour, 1.0])[:3]
            change = _stretch(random.uniform(1 - _CONTRAST, 1 + _CONTRAST), grey)
        elif step == 2:
            change = _saturate(random.uniform(1 - _SATURATION, 1 + _SATURATION))
        else:
            change = _turn_hue(random.uniform(-_HUE, _HUE))
        colours = change @ colours
    return colours


def _stretch(contrast: float, grey: float) -> np.ndarray:
    """Scale the distance of every colour from ``grey`` by ``contrast``."""
    change = np.diag([contrast, contrast, contrast, 1.0])
    change[:3, 3] = (1 - contrast) * grey
    return change


def _saturate(saturation: float) -> np.ndarray:
    """Scale the distance of every colour from its own grey; 0 makes the image grey."""
    change = np.eye(4)
    change[:3, :3] = saturation * np.eye(3) + (1 - saturation) * _GREY
    return change


def _turn_hue(turns: float) -> np.ndarray:
    """Rotate the colour plane of YIQ space by a share of the full circle; grey stays grey."""
    cosine, sine = math.cos(2 * math.pi * turns), math.sin(2 * math.pi * turns)
    rotation = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    change = np.eye(4)
    change[:3, :3] = np.linalg.inv(_YIQ) @ rotation @ _YIQ
    return change
