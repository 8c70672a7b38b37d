"""The pseudo folder: masks, region index, manifest; what an interrupted run leaves and how the next goes on.

``manifest.json`` is written last: a folder without it is incomplete. Until then ``.partial/`` holds the settings,
what has been learnt so far, and the region rows of every finished image.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage
import timm
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from episodes.lists import ImageList
from episodes.region_table import EMBEDDINGS_FILE, NEIGHBOURS_FILE, REGIONS_FILE
from masks import superpixels
from masks.neighbours import nearest_neighbours
from util.errors import UserError
from util.files import digest_lines, read_json, remove_left_overs, write_array, write_json, write_tensors, write_text
from util.images import write_label
from util.settings import require_same

_VERSION = 3
_PACKAGES = (cv2, skimage, timm, torch)  # what the masks' last bits depend on
_ADVICE = "delete the folder to make it anew, or give Cluster.pseudo_folder=ANOTHER"


class PseudoFolder:
    """One dataset's pseudo masks while they are being made.

    ``settings`` is everything the masks depend on, as it will stand in the manifest; ``learning`` the folder that may
    be used while something is learnt from the photographs. Several threads and processes may add masks.
    """

    def __init__(self, folder: Path, images: ImageList, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.images = images
        self.settings = {"version": _VERSION, **settings}
        self._partial = folder / ".partial"
        self._learnt = folder / "learnt.safetensors"
        self.learning = self._partial / "learning"

    def open(self) -> bool:
        """Start or continue the folder; True when it is complete already.

        Raises ``UserError`` when it was made with other settings or holds masks of unknown origin.
        """
        manifest, settings = self.folder / "manifest.json", self._partial / "settings.json"
        # Rows of finished images count in list order, so a run can only be continued in the same order.
        order = {"list_order": digest_lines(self.images.images)}
        if manifest.is_file():
            # While masks are made, photographs that cannot be read may be mended; after that they are what they were.
            self._check(read_json(manifest), {"file_sizes_digest": self.images.file_sizes_digest()})
            return True
        if settings.is_file():
            self._check(read_json(settings), order)
            return False
        if any(self.folder.glob("[!.]*")):
            raise UserError(f"{self.folder}: holds files but neither a manifest nor a run to continue; {_ADVICE}")
        write_json(settings, {**self.settings, **order})
        return False

    def missing_rows(self, *, part: int = 0, parts: int = 1) -> list[int]:
        """Rows of the list that have no mask yet, of every ``parts`` rows the one with number ``part``.

        Which rows are a part's does not depend on when it asks: others may have made masks meanwhile.
        """
        done = {path.stem for path in self._partial.glob("regions/[!.]*")}
        return [row for row in range(part, len(self.images), parts) if f"{row:07d}" not in done]

    def add(self, row: int, labels: np.ndarray, regions: dict[str, np.ndarray]) -> None:
        """Write the mask of one image and its regions; the image is done when the latter are there."""
        write_label(self.folder / f"{Path(self.images.images[row]).stem}.png", labels)
        write_tensors(self._regions_file(row), regions)

    def finish(self, *, neighbours: int, device: torch.device) -> None:
        """Write the region index with ``neighbours`` for each region, then the manifest.

        Raises ``UserError`` when there is no region.
        """
        regions, embedding_size = self._gather_regions()
        count = len(regions["image"])
        if count == 0:
            raise UserError(
                f"{self.folder}: no pseudo region survives the filter in any image; lower DATA.min_area "
                f"({self.settings['min_area']}) or change Cluster.region_rule ({self.settings['region_rule']})"
            )
        write_tensors(self.folder / REGIONS_FILE, regions)
        embeddings = (load_file(path)["embedding"] for path in self._regions_files())
        write_array(self.folder / EMBEDDINGS_FILE, embeddings, dtype=np.float16, shape=(count, embedding_size))
        embedding = np.load(self.folder / EMBEDDINGS_FILE, mmap_mode="r")
        nearest = nearest_neighbours(regions["image"], regions["group"], embedding, limit=neighbours, device=device)
        write_array(self.folder / NEIGHBOURS_FILE, [nearest], dtype=nearest.dtype, shape=nearest.shape)
        write_text(self.folder / "images.txt", "".join(f"{image}\n" for image in self.images.images))
        software = {package.__name__: package.__version__ for package in _PACKAGES}
        software["superpixels"] = superpixels.backend()
        totals = {
            "file_sizes_digest": self.images.file_sizes_digest(),
            "images": len(self.images),
            "regions": count,
            "software": software,
        }
        write_json(self.folder / "manifest.json", {**self.settings, **totals})
        shutil.rmtree(self._partial)
        remove_left_overs(self.folder, ".png")

    def load_learnt(self) -> dict[str, np.ndarray] | None:
        """What an earlier run of the same settings has learnt from the photographs."""
        return load_file(self._learnt) if self._learnt.is_file() else None

    def save_learnt(self, tensors: Mapping[str, np.ndarray]) -> None:
        write_tensors(self._learnt, dict(tensors))

    def _check(self, found: Mapping[str, Any], further: Mapping[str, Any]) -> None:
        require_same(self.folder, found, {**self.settings, **further}, advice=_ADVICE)

    def _gather_regions(self) -> tuple[dict[str, np.ndarray], int]:
        """The columns of all images' regions, in list order, and the length of an embedding, which is not read."""
        columns: dict[str, list[np.ndarray]] = {name: [] for name in ("image", "region", "group", "area")}
        for path in self._regions_files():
            with safe_open(path, "np") as regions:
                for name, parts in columns.items():
                    parts.append(regions.get_tensor(name))
                embedding_size = regions.get_slice("embedding").get_shape()[1]
        return {name: np.concatenate(parts) for name, parts in columns.items()}, embedding_size

    def _regions_files(self) -> list[Path]:
        return [self._regions_file(row) for row in range(len(self.images))]

    def _regions_file(self, row: int) -> Path:
        return self._partial / "regions" / f"{row:07d}.safetensors"
