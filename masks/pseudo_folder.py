"""Writing a pseudo folder, and continuing one that an interrupted run left.

``episodes.pseudo_files`` describes the files. ``manifest.json`` is written last: a folder without it is incomplete.
Until then ``.partial/`` holds the settings, what has been learnt so far, and the regions of every finished image.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from episodes.lists import ImageList
from episodes.pseudo_files import PseudoFiles
from episodes.region_table import RegionTable
from masks import superpixels
from masks.neighbours import nearest_neighbours
from util.array_files import ArrayKind, read_left_over, write_array, write_tensors
from util.errors import UserError
from util.files import digest_lines, read_json_object, remove_left_overs, write_json
from util.images import write_label
from util.logging import logger
from util.settings import require_same

_ADVICE = "delete the folder to make it anew, or give Cluster.pseudo_folder=ANOTHER"
_COLUMNS = ("image", "region", "group", "area")
# What ``masks.regions.region_rows`` gives.
_REGION_KINDS: dict[str, ArrayKind] = {**dict.fromkeys(_COLUMNS, ("int32", 1)), "embedding": ("float16", 2)}
_PNG_END = b"IEND\xaeB`\x82"


class PseudoFolder:
    """The pseudo masks of one dataset while they are being made.

    ``settings`` is everything that the masks depend on, as the manifest will hold it (``masks.build``); ``learning`` is
    a folder for files that are needed while the recipe learns. Several threads and processes may add masks.
    """

    def __init__(self, folder: Path, images: ImageList, settings: Mapping[str, Any]) -> None:
        self.files = PseudoFiles(folder)
        self.images = images
        self.settings = dict(settings)
        self._partial = folder / ".partial"
        self._unfinished = self._partial / "settings.json"
        self.learning = self._partial / "learning"

    def is_complete(self) -> bool:
        """Whether nothing is left to do; writes nothing.

        Raises ``UserError`` when it is damaged, was made with other settings or holds files of unknown origin.
        """
        if not self.files.manifest.is_file():
            self._refuse_others()
            return False
        # Unreadable images may be replaced while masks are being made, but not afterwards.
        self._check(self.files.read_manifest(), {"file_sizes_digest": self.images.file_sizes_digest()})
        RegionTable.load(self.files.folder)
        return True

    def start(self) -> None:
        """Start the folder or continue it; only one process may do that at a time (``util.locks``).

        Raises ``UserError`` when it was begun with other settings or holds files of unknown origin.
        """
        # Rows of finished images count in list order, so a run can only be continued in the same order.
        order = {"list_order": digest_lines(self.images.images)}
        if self._unfinished.is_file():
            self._check(read_json_object(self._unfinished, _ADVICE), order)
            return
        self._refuse_others()
        write_json(self._unfinished, {**self.settings, **order})

    def missing_rows(self, *, part: int = 0, parts: int = 1) -> list[int]:
        """Rows of the list that have no mask yet: of every ``parts`` rows the one with number ``part``.

        Which rows belong to a part does not depend on the time of the call: others may have made masks meanwhile.
        Files that are cut short count as missing.
        """
        return [row for row in range(part, len(self.images), parts) if not self._is_done(row)]

    def add(self, row: int, mask: np.ndarray, regions: dict[str, np.ndarray]) -> None:
        """Write the mask of one image and its regions; the image is done when the latter exist."""
        write_label(self.files.mask(self.images.images[row]), mask)
        write_tensors(self._regions_file(row), regions)

    def finish(self, *, neighbours: int, device: torch.device) -> None:
        """Write the table of regions with ``neighbours`` for each region, then the manifest.

        Raises ``UserError`` when there is no region.
        """
        regions, embedding_size = self._gather_regions()
        count = len(regions["image"])
        if count == 0:
            raise UserError(
                f"{self.files.folder}: no pseudo region survives the filter in any image; lower DATA.min_area "
                f"({self.settings['min_area']}) or change Cluster.region_rule ({self.settings['region_rule']})"
            )
        recall = self._write_table(regions, embedding_size, neighbours, device)
        self.files.write_images(self.images.images)
        outcome = {
            "file_sizes_digest": self.images.file_sizes_digest(),
            "images": len(self.images),
            "regions": count,
            "neighbour_recall": round(recall, 4),
            "software": _software(),
            "digests": self.files.digests(),
        }
        write_json(self.files.manifest, {**self.settings, **outcome})
        shutil.rmtree(self._partial)
        remove_left_overs(self.files.folder, ".png")

    def load_learnt(self, kinds: Mapping[str, ArrayKind]) -> dict[str, np.ndarray] | None:
        """What an earlier run with the same settings learnt from the images: arrays of these ``kinds``."""
        return read_left_over(self.files.learnt, kinds)

    def save_learnt(self, tensors: Mapping[str, np.ndarray]) -> None:
        write_tensors(self.files.learnt, dict(tensors))

    def _refuse_others(self) -> None:
        """Raise ``UserError`` for files that neither a manifest nor an unfinished run explains."""
        if not self._unfinished.is_file() and any(map(_is_somebodys, self.files.folder.glob("*"))):
            raise UserError(f"{self.files.folder}: holds files but neither a manifest nor a run to continue; {_ADVICE}")

    def _is_done(self, row: int) -> bool:
        return read_left_over(self._regions_file(row), _REGION_KINDS) is not None and self._has_mask(row)

    def _has_mask(self, row: int) -> bool:
        path = self.files.mask(self.images.images[row])
        if path.is_file() and path.read_bytes().endswith(_PNG_END):
            return True
        logger.warning("%s: not a whole mask; it is made again", path)
        return False

    def _check(self, recorded: Mapping[str, Any], further: Mapping[str, Any]) -> None:
        require_same(self.files.folder, recorded, {**self.settings, **further}, advice=_ADVICE)

    def _write_table(
        self, regions: dict[str, np.ndarray], embedding_size: int, neighbours: int, device: torch.device
    ) -> float:
        """Write regions, embeddings (not all in memory at once) and nearest neighbours, whose recall it returns."""
        files, count = self.files, len(regions["image"])
        write_tensors(files.regions, regions)
        embeddings = (load_file(path)["embedding"] for path in self._regions_files())
        write_array(files.embeddings, embeddings, dtype=np.float16, shape=(count, embedding_size))
        embedding = np.load(files.embeddings, mmap_mode="r")
        nearest = nearest_neighbours(regions["image"], regions["group"], embedding, limit=neighbours, device=device)
        write_array(files.neighbours, [nearest.rows], dtype=nearest.rows.dtype, shape=nearest.rows.shape)
        return nearest.recall

    def _gather_regions(self) -> tuple[dict[str, np.ndarray], int]:
        """The columns of all images' regions, in list order, and the length of an embedding, which is not read."""
        columns: dict[str, list[np.ndarray]] = {name: [] for name in _COLUMNS}
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


def _is_somebodys(path: Path) -> bool:
    """Whether it is neither ours nor the system's; the mask of ``.image.jpg`` is hidden too."""
    return not path.name.startswith(".") or path.suffix == ".png"


def _software() -> dict[str, str]:
    """Versions that the last bits of the masks depend on."""
    return {
        "cv2": cv2.__version__,
        "skimage": metadata.version("scikit-image"),
        "timm": metadata.version("timm"),
        "torch": torch.__version__,
        "superpixels": superpixels.backend(),
    }
