"""Each class asked for in every image of a list, as in a folder where it is in a few (docs/method.md, section 12)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from episodes.episode import Episode, EpisodeKey, Example, Task, build_episode
from episodes.label_index import label_areas
from episodes.lists import ImageList
from episodes.protocols import SupportVoid
from episodes.supervised import without_rare_classes
from episodes.transforms import Transform, View
from util.images import read_image
from util.seed import python_random


class EveryPhotograph(Dataset[Episode]):
    """For each of ``classes`` the same ``shots`` supports with every other image of the list as the query.

    Supports are drawn among the images in which the class covers ``min_area`` pixels; a query may hold fewer of it, or
    none. Episodes are ordered by image, then by class, and have what those of a test have; the supports of a class
    depend on list, ``seed``, class and ``shots`` alone. A class with too few images is left out with a warning; raises
    ``UserError`` when none is left.
    """

    def __init__(
        self,
        images: ImageList,
        classes: Sequence[int],
        *,
        shots: int,
        seed: int,
        transform: Transform,
        min_area: int = 2048,
        support_void: SupportVoid = "void",
    ) -> None:
        areas = label_areas(images)
        images_of_class = [areas.images_with(number, min_area) for number in classes]
        usable = without_rare_classes(images, classes, images_of_class, shots=shots, min_area=min_area)
        self.images = images
        self.classes = tuple(number for number, rows in zip(classes, usable, strict=True) if len(rows))
        self.shots = shots
        self.transform = transform
        self.support_void: SupportVoid = support_void
        self._supports = np.array(
            [
                python_random(seed, "supports", number).sample(rows.tolist(), shots)
                for number, rows in zip(classes, usable, strict=True)
                if len(rows)
            ]
        )
        is_query = np.ones((len(images), len(self.classes)), dtype=bool)
        is_query[self._supports.T, np.arange(len(self.classes))] = False
        self._episodes = np.argwhere(is_query)  # row of the query, position of the class

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, key: EpisodeKey) -> Episode:
        return build_episode(
            self.draw(key),
            self.example,
            transform=self.transform,
            support_void=self.support_void,
            keep_original=True,
        )

    @property
    def queries(self) -> list[int]:
        """Rows of the images that are a query of any class, in order."""
        return np.unique(self._episodes[:, 0]).tolist()

    @property
    def numbers(self) -> np.ndarray:
        """(classes, queries) int64: the episode that asks for the class in the image, -1 where none does."""
        numbers = np.full((len(self.images), len(self.classes)), -1)
        numbers[tuple(self._episodes.T)] = np.arange(len(self))
        return numbers[self.queries].T

    @property
    def asked(self) -> np.ndarray:
        """(classes, queries) bool: whether the class is asked for in the image."""
        return self.numbers >= 0

    def of_each_class(self, further: Sequence[Sequence[View]]) -> Iterator[Episode]:
        """An episode of each class, for its supports, with the ``further`` ones of each."""
        numbers = np.unique(self._episodes[:, 1], return_index=True)[1].tolist()
        return (self.extended(number, views) for number, views in zip(numbers, further, strict=True))

    def of_each_query(self) -> Iterator[dict[str, Tensor]]:
        """``query_image`` and ``query_padding`` of each of the ``queries``, as an episode has them."""
        for row in self.queries:
            image = read_image(self.images.image_path(row), self.transform.useful_side)
            view = self.transform(
                image, np.zeros(image.shape[:2], dtype=np.uint8), rng=python_random("no augmentation")
            )
            yield {"query_image": view.image, "query_padding": view.padding}

    def extended(self, number: int, further: Sequence[View]) -> Episode:
        """An episode by its number, with ``further`` supports."""
        episode = self[0, number]
        episode["support_images"] = torch.cat([episode["support_images"], *(view.image[None] for view in further)])
        episode["support_masks"] = torch.cat([episode["support_masks"], *(view.mask[None] for view in further)])
        episode["support_padding"] = torch.cat([episode["support_padding"], *(view.padding[None] for view in further)])
        return episode

    def draw(self, key: EpisodeKey) -> Task:
        """The objects of an episode: number ``c * images + row`` is class ``classes[c]`` in the image of a row."""
        _, index = key
        query, position = self._episodes[index].tolist()
        rows = (query, *self._supports[position].tolist())
        objects = tuple(position * len(self.images) + row for row in rows)
        return Task(objects, self.classes[position], query, python_random("no augmentation"))

    def example(self, number: int) -> Example:
        """Image and label of an object."""
        position, row = divmod(number, len(self.images))
        return Example(self.images.image_path(row), self.images.label_path(row), self.classes[position])
