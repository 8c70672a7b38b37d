"""Episodes from pseudo masks: training that opens no label of any image (docs/method.md, sections 10 and 11)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from episodes.episode import Episode, EpisodeKey, Example, QueryOrder, Task, build_episode
from episodes.groups import Groups
from episodes.lists import ImageList
from episodes.pseudo_files import CREATE_COMMAND, PseudoFiles
from episodes.region_table import RegionTable
from episodes.transforms import Transform
from util.errors import UserError
from util.seed import python_random


class PseudoEpisodes(Dataset[Episode]):
    """Episodes whose object is a kept region of a pseudo mask and whose supports are its neighbours.

    Every image with a kept region is a query once per epoch, in a new random order. Its region is uniform among the
    kept ones; the ``shots`` supports are uniform, without repetition, among the region's neighbours in other images.
    Regions with fewer neighbours than ``shots`` are left out. ``neighbours`` limits them (0: half of the group).
    ``folder`` is what `masks/create.sh` wrote; apart from it only images are read.

    ``dataset[(epoch, index)]`` depends on list, folder, ``seed``, epoch and index alone; ``class_id`` is the region's
    group. Raises ``UserError`` when the folder does not fit the list or no region is left.
    """

    def __init__(
        self, images: ImageList, folder: Path, *, shots: int, seed: int, transform: Transform, neighbours: int = 0
    ) -> None:
        self.images = images
        self.files = PseudoFiles(folder)
        self.shots = shots
        self.seed = seed
        self.transform = transform
        self.neighbours = neighbours
        self.table = RegionTable.load(folder)
        self._row_in_list = _rows_in_list(self.table, images)
        self._regions = np.flatnonzero(self.table.neighbour_counts(neighbours) >= shots)
        if len(self._regions) == 0:
            raise UserError(_nothing_left(self.files, shots, neighbours))
        self._by_image = Groups(self.table.image[self._regions])
        self._order = QueryOrder(len(self), seed)

    def __len__(self) -> int:
        """Number of images that can be a query."""
        return len(self._by_image)

    def __getitem__(self, key: EpisodeKey) -> Episode:
        return build_episode(self.draw(key), self.example, transform=self.transform)

    @property
    def objects(self) -> int:
        """Number of objects: the regions of the table."""
        return len(self.table)

    def draw(self, key: EpisodeKey) -> Task:
        """The regions of an episode."""
        epoch, index = key
        rng = python_random(self.seed, "episode", epoch, index)
        query = int(self._regions[rng.choice(self._by_image[self._order(epoch, index)])])
        supports = rng.sample(self.table.neighbours(query, self.neighbours).tolist(), self.shots)
        return Task((query, *supports), int(self.table.group[query]), self._list_row(query), rng)

    def example(self, region: int) -> Example:
        """Image and mask of a region."""
        image = self.images.image_path(self._list_row(region))
        return Example(image, self.files.mask(image), int(self.table.region[region]))

    def _list_row(self, region: int) -> int:
        return int(self._row_in_list[self.table.image[region]])


def _rows_in_list(table: RegionTable, images: ImageList) -> np.ndarray:
    """For each row of the folder's images its row in the list."""
    stems = [Path(image).stem for image in table.images]
    row_of_stem = {Path(image).stem: row for row, image in enumerate(images.images)}
    missing = [stem for stem in stems if stem not in row_of_stem]
    if missing:
        raise UserError(
            f"{table.files.images}: {len(missing)} of its images are not in {images.list_file} (the first is "
            f"{missing[0]}); train on the list that the masks were made from, or run `{CREATE_COMMAND}` for this one"
        )
    return np.array([row_of_stem[stem] for stem in stems])


def _nothing_left(files: PseudoFiles, shots: int, neighbours: int) -> str:
    manifest = files.read_manifest()
    made_with = ", ".join(f"{key} {manifest.get(key, 'unknown')}" for key in ("min_area", "region_rule", "regions"))
    return (
        f"{files.folder}: no region has the {shots} neighbours in other images that {shots} shots need (masks made "
        f"with {made_with}; Cluster.neighbours is {neighbours}); use a smaller DATA.min_area, another "
        "Cluster.region_rule, fewer shots or more images"
    )
