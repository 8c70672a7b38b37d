"""A complete pseudo folder, read back: what it was made with, its masks and the regions kept of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from episodes.lists import ImageList
from episodes.pseudo import IMAGES_FILE, MANIFEST_FILE, check_manifest
from episodes.region_table import REGIONS_FILE, RegionTable
from util.errors import UserError
from util.files import digest_lines, read_json
from util.images import read_label

_REMEDY = "delete the folder and make it again with `bash masks/create.sh ROOT DATASET`"


@dataclass(frozen=True)
class MadeMasks:
    """The masks of N images in ``folder``.

    ``manifest`` is what they were made with; ``images`` their paths as the list had them; ``kept`` the region ids
    that may be objects, (R,) int32 for each image; ``groups`` the regions' clusters, (all regions,) int32.
    """

    folder: Path
    manifest: dict[str, Any]
    images: tuple[str, ...]
    kept: list[np.ndarray]
    groups: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> MadeMasks:
        """Read all but the masks. Raises ``UserError`` for a folder that is not complete, or damaged."""
        check_manifest(folder, {})
        manifest = read_json(folder / MANIFEST_FILE)
        images = _read_images(folder / IMAGES_FILE)
        table = RegionTable.load(folder)
        order = np.argsort(table.image, kind="stable")
        counts = np.bincount(table.image, minlength=len(images))
        if not len(images) == len(counts) == manifest["images"]:
            files = f"{IMAGES_FILE}, {REGIONS_FILE} and {MANIFEST_FILE}"
            raise UserError(f"{folder}: {files} are not of the same {manifest['images']} images; {_REMEDY}")
        kept = np.split(table.region[order], np.cumsum(counts)[:-1])
        return cls(folder, manifest, images, kept, table.group)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def cluster_num(self) -> int | None:
        """K of the recipe ``global``; None for one without clusters."""
        return int(self.manifest["cluster_num"]) if self.manifest["recipe"] == "global" else None

    def mask_path(self, row: int) -> Path:
        return self.folder / f"{Path(self.images[row]).stem}.png"

    def read(self, row: int) -> np.ndarray:
        """The mask of an image, uint8 (H, W). Raises ``UserError`` when it is missing, damaged or not the folder's."""
        path = self.mask_path(row)
        try:
            mask = read_label(path)
        except UserError as error:
            raise UserError(f"{error}; {_REMEDY}") from None
        pixels = np.bincount(mask.ravel(), minlength=256)
        if not pixels[self.kept[row]].all() or pixels[self.cluster_num or 255 : 255].any():
            raise UserError(f"{path}: not the mask that {REGIONS_FILE} and {MANIFEST_FILE} speak of; {_REMEDY}")
        return mask

    def in_this_order(self, images: ImageList) -> ImageList:
        """``images`` in the order of the folder. Raises ``UserError`` when they are not the folder's images."""
        rows = {Path(image).stem: row for row, image in enumerate(images.images)}
        stems = [Path(image).stem for image in self.images]
        if digest_lines(sorted(stems)) != images.digest:
            raise UserError(
                f"{self.folder}: its {len(self)} masks are not of the {len(images)} images of {images.list_file}; "
                "give the list they were made from (list=FILE), or another Cluster.pseudo_folder"
            )
        order = [rows[stem] for stem in stems]
        return replace(
            images,
            images=tuple(images.images[row] for row in order),
            labels=tuple(images.labels[row] for row in order),
        )


def _read_images(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable list ({type(error).__name__}); {_REMEDY}") from None
