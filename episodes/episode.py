"""One few-shot task: its fields, how it is assembled from files, how tasks become a batch.

The contract is in docs/architecture.md, "An episode".
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Sampler
from typing_extensions import NotRequired, TypedDict

from episodes.protocols import SupportVoid
from episodes.transforms import PADDED, Transform, View
from util.images import IGNORE, check_same_size, image_size, read_image, read_label
from util.seed import numpy_random

EpisodeKey = tuple[int, int]
"""(epoch, index): together with the dataset and the seed it determines an episode."""


class Episode(TypedDict):
    """One query image and K annotated support images of a class; masks hold 0, 1 = object, 255 = ignore."""

    query_image: torch.Tensor  # (3, H, W) float32, ImageNet-normalised
    query_mask: torch.Tensor  # (H, W) int64
    query_padding: torch.Tensor  # (H, W) bool, True where padded
    support_images: torch.Tensor  # (K, 3, H, W) float32
    support_masks: torch.Tensor  # (K, H, W) int64
    support_padding: torch.Tensor  # (K, H, W) bool
    class_id: int
    query_index: int  # row in the image list
    original_mask: NotRequired[torch.Tensor]  # (H0, W0) int64 at the image's own size; evaluation only
    original_image: NotRequired[torch.Tensor]  # (H1, W1, 3) uint8 RGB as it was read, no larger; evaluation only


class Batch(TypedDict):
    """B episodes: every field of ``Episode`` with a leading axis B; (B,) int64 for the two numbers."""

    query_image: torch.Tensor
    query_mask: torch.Tensor
    query_padding: torch.Tensor
    support_images: torch.Tensor
    support_masks: torch.Tensor
    support_padding: torch.Tensor
    class_id: torch.Tensor
    query_index: torch.Tensor
    original_mask: NotRequired[list[torch.Tensor]]  # their sizes differ
    original_image: NotRequired[list[torch.Tensor]]


class Example(NamedTuple):
    """An image, its label map and the label value that is the object."""

    image: Path
    label: Path
    object_id: int


class Task(NamedTuple):
    """What was drawn for an episode, before any file is read.

    ``objects`` are numbers that the dataset gives to its objects, the query's first; ``rng`` is the episode's own
    generator, which goes on to draw the augmentation.
    """

    objects: tuple[int, ...]
    class_id: int
    query_index: int
    rng: random.Random


def build_episode(
    task: Task,
    example: Callable[[int], Example],
    *,
    transform: Transform,
    support_void: SupportVoid = "void",
    keep_original: bool = False,
) -> Episode:
    """Read the files of a task and transform each image on its own, the query first.

    ``example(number)`` is an object of the dataset. ``support_void`` is what the supports' 255 pixels are;
    ``keep_original`` adds ``original_mask`` and ``original_image``. Raises ``UserError`` for a file that cannot be
    used.
    """
    query, *supports = map(example, task.objects)
    image, mask = read_example(query, transform.useful_side)
    view = transform(image, fit_mask(mask, image), rng=task.rng)
    views = [_support_view(support, transform, task.rng, support_void) for support in supports]
    episode = join_views(view, views, class_id=task.class_id, query_index=task.query_index)
    if keep_original:
        episode["original_mask"] = torch.from_numpy(mask.astype(np.int64))
        episode["original_image"] = torch.from_numpy(np.ascontiguousarray(image))
    return episode


def join_views(query: View, supports: Sequence[View], *, class_id: int, query_index: int) -> Episode:
    """The episode of views that are made."""
    return Episode(
        query_image=query.image,
        query_mask=query.mask,
        query_padding=query.padding,
        support_images=torch.stack([view.image for view in supports]),
        support_masks=torch.stack([view.mask for view in supports]),
        support_padding=torch.stack([view.padding for view in supports]),
        class_id=class_id,
        query_index=query_index,
    )


def read_example(example: Example, useful_side: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The image (H, W, 3) uint8 RGB and the object's mask (H, W) uint8: 1 object, 255 ignore, 0 anything else.

    With ``useful_side`` the image may be smaller than its mask (``read_image``). Raises ``UserError`` for a file that
    cannot be used.
    """
    image, label = read_image(example.image, useful_side), read_label(example.label)
    if image.shape[:2] != label.shape:
        size = image.shape[:2] if useful_side is None else image_size(example.image)
        check_same_size(example.image, size, example.label, label.shape)
    mask = (label == example.object_id).astype(np.uint8)
    mask[label == IGNORE] = IGNORE
    return image, mask


def collate(episodes: Sequence[Episode]) -> Batch:
    """Stack episodes of one size and one number of shots."""
    batch = Batch(
        query_image=torch.stack([episode["query_image"] for episode in episodes]),
        query_mask=torch.stack([episode["query_mask"] for episode in episodes]),
        query_padding=torch.stack([episode["query_padding"] for episode in episodes]),
        support_images=torch.stack([episode["support_images"] for episode in episodes]),
        support_masks=torch.stack([episode["support_masks"] for episode in episodes]),
        support_padding=torch.stack([episode["support_padding"] for episode in episodes]),
        class_id=torch.tensor([episode["class_id"] for episode in episodes]),
        query_index=torch.tensor([episode["query_index"] for episode in episodes]),
    )
    if "original_mask" in episodes[0]:
        batch["original_mask"] = [episode["original_mask"] for episode in episodes]
        batch["original_image"] = [episode["original_image"] for episode in episodes]
    return batch


class QueryOrder:
    """Every query once before any is repeated, in a new random order each epoch."""

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed
        self._epoch: int | None = None
        self._order = np.arange(count)

    def __call__(self, epoch: int, index: int) -> int:
        """A number below ``count``, the same for the same (epoch, index)."""
        if epoch != self._epoch:
            self._order = numpy_random(self.seed, "query order", epoch).permutation(self.count)
            self._epoch = epoch
        return int(self._order[index % self.count])


class EpisodeSampler(Sampler[list[EpisodeKey]]):
    """Batches of keys (epoch, 0..episodes-1) in order.

    Among ``world_size`` processes step t of process ``rank`` is batch t * world_size + rank: together they see what one
    process with a ``world_size`` times larger batch would see. A process leaves out its batches before ``first_batch``.
    """

    def __init__(
        self,
        *,
        epoch: int,
        episodes: int,
        batch_size: int,
        drop_last: bool,
        first_batch: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        unit = batch_size * world_size
        usable = episodes // unit * unit if drop_last else episodes
        self.epoch = epoch
        self.batches = [
            range(start, min(start + batch_size, usable)) for start in range(rank * batch_size, usable, unit)
        ][first_batch:]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[EpisodeKey]]:
        for batch in self.batches:
            yield [(self.epoch, index) for index in batch]


def _support_view(example: Example, transform: Transform, rng: random.Random, void: SupportVoid) -> View:
    image, mask = read_example(example, transform.useful_side)
    mask = fit_mask(mask, image)
    padding = np.where(mask == IGNORE, PADDED, 0).astype(np.uint8) if void == "padding" else None
    if void == "background":
        mask[mask == IGNORE] = 0
    return transform(image, mask, rng=rng, padding=padding)


def fit_mask(mask: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The mask at the size of its image, which may have been read at a reduced size."""
    height, width = image.shape[:2]
    return mask if mask.shape == (height, width) else cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
