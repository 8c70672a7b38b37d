"""Episodes from pseudo masks: training that opens no label of any image (docs/method.md, sections 10 and 11)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from episodes.episode import Episode, EpisodeKey, Example, QueryOrder, build_episode
from episodes.groups import Groups
from episodes.lists import ImageList
from episodes.region_table import RegionTable
from episodes.transforms import Transform
from util.errors import UserError
from util.files import read_json
from util.seed import python_random
from util.settings import differences

MANIFEST_FILE = "manifest.json"
IMAGES_FILE = "images.txt"
REPORT_FILE = "report.json"
_CREATE = "bash masks/create.sh ROOT DATASET"


class PseudoEpisodes(Dataset[Episode]):
    """Episodes whose object is a kept region of a pseudo mask and whose supports are its neighbours.

    Every image with a kept region is a query once an epoch, in a new random order; its region is uniform among the
    kept ones, the ``shots`` supports are uniform, without repetition, among the region's neighbours in other
    photographs. Regions with fewer neighbours than ``shots`` are left out. ``neighbours`` limits them (0: half of
    the group). ``folder`` holds what `masks/create.sh` wrote; nothing else is read but the photographs.

    ``dataset[(epoch, index)]`` is a function of list, folder, ``seed``, epoch and index alone; ``class_id`` is the
    region's group. Raises ``UserError`` when the folder does not fit the list or no region is left.
    """

    def __init__(
        self, images: ImageList, folder: Path, *, shots: int, seed: int, transform: Transform, neighbours: int = 0
    ) -> None:
        self.images = images
        self.folder = folder
        self.shots = shots
        self.seed = seed
        self.transform = transform
        self.neighbours = neighbours
        self.table = RegionTable.load(folder)
        self._row_in_list = _rows_in_list(folder, images)
        self._regions = np.flatnonzero(self.table.neighbour_counts(neighbours) >= shots)
        if len(self._regions) == 0:
            raise UserError(_nothing_left(folder, shots, neighbours))
        self._by_image = Groups(self.table.image[self._regions])
        self._order = QueryOrder(len(self), seed)

    def __len__(self) -> int:
        """Number of images that can be a query."""
        return len(self._by_image)

    def __getitem__(self, key: EpisodeKey) -> Episode:
        epoch, index = key
        rng = python_random(self.seed, "episode", epoch, index)
        query = int(self._regions[rng.choice(self._by_image[self._order(epoch, index)])])
        supports = rng.sample(self.table.neighbours(query, self.neighbours).tolist(), self.shots)
        return build_episode(
            self._example(query),
            [self._example(row) for row in supports],
            transform=self.transform,
            rng=rng,
            class_id=int(self.table.group[query]),
            query_index=self._list_row(query),
        )

    def _example(self, region: int) -> Example:
        image = self.images.image_path(self._list_row(region))
        return Example(image, self.folder / f"{image.stem}.png", int(self.table.region[region]))

    def _list_row(self, region: int) -> int:
        return int(self._row_in_list[self.table.image[region]])


def check_manifest(folder: Path, config_values: Mapping[str, Any]) -> None:
    """Refuse pseudo masks that were made with other values than those given.

    Only the keys of ``config_values`` are compared, nested mappings key by key. Raises ``UserError`` that names
    every value that differs, or says that the folder is not complete.
    """
    manifest = folder / MANIFEST_FILE
    if not manifest.is_file():
        raise UserError(f"{folder}: no complete set of pseudo masks here ({MANIFEST_FILE} is missing); run `{_CREATE}`")
    different = differences(read_json(manifest), config_values)
    if different:
        raise UserError(
            f"{manifest} does not fit the config: {'; '.join(different)}; change the config, or make the masks "
            f"again with `{_CREATE}` (Cluster.pseudo_folder=... keeps these)"
        )


def _rows_in_list(folder: Path, images: ImageList) -> np.ndarray:
    """For each row of the folder's images its row in the list."""
    path = folder / IMAGES_FILE
    try:
        stems = [Path(line).stem for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise UserError(f"{path}: file not found; run `{_CREATE}`") from None
    row_of_stem = {Path(image).stem: row for row, image in enumerate(images.images)}
    missing = [stem for stem in stems if stem not in row_of_stem]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of its images are not in {images.list_file} (the first is {missing[0]}); "
            f"train on the list the masks were made from, or run `{_CREATE}` for this one"
        )
    return np.array([row_of_stem[stem] for stem in stems])


def _nothing_left(folder: Path, shots: int, neighbours: int) -> str:
    manifest = read_json(folder / MANIFEST_FILE)
    made_with = ", ".join(f"{key} {manifest.get(key, 'unknown')}" for key in ("min_area", "region_rule", "regions"))
    return (
        f"{folder}: no region has the {shots} neighbours in other photographs that {shots} shots need (masks made with "
        f"{made_with}; Cluster.neighbours is {neighbours}); use a smaller DATA.min_area, another Cluster.region_rule, "
        "fewer shots or more images"
    )
