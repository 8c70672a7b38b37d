"""Reading a complete pseudo folder back: what it was made with, its masks and the regions kept of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from episodes.lists import ImageList
from episodes.pseudo_files import REMEDY, PseudoFiles
from episodes.region_table import RegionTable
from masks.recipes import RECIPES
from util.errors import UserError
from util.files import digest_lines
from util.images import IGNORE, read_label


@dataclass(frozen=True)
class PseudoMasks:
    """The masks of N images.

    ``manifest`` is what they were made with; ``images`` their paths as the list had them; ``kept`` the region ids
    that may be objects, (R,) int32 for each image; ``groups`` the regions' clusters, (all regions,) int32.
    """

    files: PseudoFiles
    manifest: dict[str, Any]
    images: tuple[str, ...]
    kept: list[np.ndarray]
    groups: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> PseudoMasks:
        """Read all but the masks. Raises ``UserError`` for a folder that is incomplete or damaged."""
        files = PseudoFiles(folder)
        manifest = files.read_manifest()
        if not _is_complete(manifest):
            raise UserError(f"{files.manifest}: it does not say what the masks were made with; {REMEDY}")
        table = RegionTable.load(folder)
        order = np.argsort(table.image, kind="stable")
        counts = np.bincount(table.image, minlength=len(table.images))
        kept = np.split(table.region[order], np.cumsum(counts)[:-1])
        return cls(files, manifest, table.images, kept, table.group)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def folder(self) -> Path:
        return self.files.folder

    @property
    def cluster_num(self) -> int | None:
        """K of a recipe whose ids are clusters of the whole dataset; None for any other."""
        return int(self.manifest["cluster_num"]) if RECIPES[self.manifest["recipe"]].has_clusters else None

    def mask_path(self, row: int) -> Path:
        return self.files.mask(self.images[row])

    def read(self, row: int) -> np.ndarray:
        """The mask of an image, uint8 (H, W). Raises ``UserError`` when it is missing, damaged or not the folder's."""
        path = self.mask_path(row)
        try:
            mask = read_label(path)
        except UserError as error:
            raise UserError(f"{error}; {REMEDY}") from None
        pixels = np.bincount(mask.ravel(), minlength=256)
        if not pixels[self.kept[row]].all() or pixels[self.cluster_num or IGNORE : IGNORE].any():
            names = f"{self.files.regions.name} and {self.files.manifest.name}"
            raise UserError(f"{path}: not the mask that {names} describe; {REMEDY}")
        return mask

    def in_this_order(self, images: ImageList) -> ImageList:
        """``images`` in the order of the folder. Raises ``UserError`` when they are not the folder's images."""
        rows = {Path(image).stem: row for row, image in enumerate(images.images)}
        stems = [Path(image).stem for image in self.images]
        if digest_lines(sorted(stems)) != images.digest:
            raise UserError(
                f"{self.folder}: its {len(self)} masks are not of the {len(images)} images in {images.list_file}; "
                "give the list they were made from (list=FILE), or another Cluster.pseudo_folder"
            )
        order = [rows[stem] for stem in stems]
        return replace(
            images,
            images=tuple(images.images[row] for row in order),
            labels=tuple(images.labels[row] for row in order),
        )


def _is_complete(manifest: Mapping[str, Any]) -> bool:
    """Whether it names a recipe, and how many clusters a recipe that has some was given."""
    recipe = manifest.get("recipe")
    if not isinstance(recipe, str) or recipe not in RECIPES:
        return False
    return not RECIPES[recipe].has_clusters or manifest.get("cluster_num") in range(1, IGNORE + 1)
