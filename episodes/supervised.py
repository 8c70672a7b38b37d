"""Episodes from labelled images: for training on the classes of a fold, and for every test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

from episodes.episode import Episode, EpisodeKey, Example, QueryOrder, Task, build_episode
from episodes.groups import Groups
from episodes.label_index import label_areas
from episodes.lists import ImageList
from episodes.protocols import SupportVoid
from episodes.transforms import Transform
from util.errors import UserError
from util.logging import logger
from util.seed import python_random


class SupervisedEpisodes(Dataset[Episode]):
    """Episodes whose object is one of ``classes``; label values of all other classes become background.

    A class is present in an image where it covers ``min_area`` pixels. The query's class is uniform among those
    present, its supports are ``shots`` different other images of the class. In training the queries come in a new
    random order each epoch; with ``evaluation`` query i is the i-th usable image of the list, cyclically, and
    ``original_mask`` is kept. Images with any pixel of ``drop_classes`` are left out. ``support_void`` is
    what the 255 pixels of supports are.

    ``dataset[(epoch, index)]`` depends on list, ``seed``, epoch and index alone (docs/method.md, sections 10 and 12).
    A class with too few images for ``shots`` is left out with a warning; raises ``UserError`` when none is left.
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
        drop_classes: Sequence[int] = (),
        evaluation: bool = False,
        support_void: SupportVoid = "void",
    ) -> None:
        areas = label_areas(images)
        dropped = np.concatenate([[], *(areas.images_with(number) for number in drop_classes)])
        self.images = images
        self.classes = tuple(classes)
        self.shots = shots
        self.seed = seed
        self.transform = transform
        self.evaluation = evaluation
        self.support_void: SupportVoid = support_void
        images_of_class = [np.setdiff1d(areas.images_with(number, min_area), dropped) for number in classes]
        images_of_class = without_rare_classes(images, classes, images_of_class, shots=shots, min_area=min_area)
        # An object for each class of each image, those of a class next to each other.
        self._image_of_object = np.concatenate(images_of_class)
        self._class_bounds = np.cumsum([0, *map(len, images_of_class)])
        self._by_image = Groups(self._image_of_object)
        self._order = QueryOrder(len(self), seed)

    def __len__(self) -> int:
        """Number of images that can be a query."""
        return len(self._by_image)

    def __getitem__(self, key: EpisodeKey) -> Episode:
        return build_episode(
            self.draw(key),
            self.example,
            transform=self.transform,
            support_void=self.support_void,
            keep_original=self.evaluation,
        )

    @property
    def objects(self) -> int:
        """Number of objects: the classes of each image."""
        return len(self._image_of_object)

    def draw(self, key: EpisodeKey) -> Task:
        """The objects of an episode."""
        epoch, index = key
        number = index % len(self) if self.evaluation else self._order(epoch, index)
        rng = python_random(self.seed, "episode", epoch, index)
        query = int(rng.choice(self._by_image[number]))
        position = self._class_position(query)
        candidates = range(self._class_bounds[position], self._class_bounds[position + 1])
        # One more than needed, because the query may be among them.
        supports = [row for row in rng.sample(candidates, self.shots + 1) if row != query][: self.shots]
        return Task((query, *supports), self.classes[position], int(self._image_of_object[query]), rng)

    def example(self, number: int) -> Example:
        """Image and label of an object."""
        row = int(self._image_of_object[number])
        return Example(
            self.images.image_path(row), self.images.label_path(row), self.classes[self._class_position(number)]
        )

    def _class_position(self, number: int) -> int:
        return int(np.searchsorted(self._class_bounds, number, side="right")) - 1


def without_rare_classes(
    images: ImageList, classes: Sequence[int], images_of_class: Sequence[np.ndarray], *, shots: int, min_area: int
) -> list[np.ndarray]:
    """The images of each class, none for classes with too few for an episode, which are logged.

    Raises ``UserError`` when no class has enough.
    """
    counts = {number: len(rows) for number, rows in zip(classes, images_of_class, strict=True)}
    rare = [f"class {number} has {count}" for number, count in counts.items() if count <= shots]
    needed = (
        f"{images.list_file}: {shots} shots need {shots + 1} images of a class with {min_area} pixels of it, but "
        f"{', '.join(rare)}"
    )
    if len(rare) == len(counts):
        raise UserError(f"{needed}; label more images, use fewer shots (TRAIN.shot) or a smaller DATA.min_area")
    if rare:
        logger.warning("%s: left out", needed)
    return [rows if len(rows) > shots else rows[:0] for rows in images_of_class]
