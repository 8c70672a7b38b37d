"""The files of a pseudo folder: one description for writing, reading and training on it.

``masks.pseudo_folder`` writes it, ``masks.pseudo_masks`` reads it back, ``episodes.pseudo`` trains on it;
docs/architecture.md, "A pseudo folder", explains it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from util.errors import UserError
from util.files import digest_file, digest_lines, read_json_object, read_lines, write_text
from util.settings import differences

# Of the manifest; masks of another version are made again.
VERSION = 3
CREATE_COMMAND = "bash masks/create.sh ROOT DATASET"
# For a damaged folder.
REMEDY = f"delete the folder and make it again with `{CREATE_COMMAND}`"


@dataclass(frozen=True)
class PseudoFiles:
    """Paths in a pseudo folder.

    ``manifest.json`` holds every setting that the masks depend on and is written last: a folder without it is not
    complete. ``images.txt`` lists the images, one a line, as the image list has them; row r of it is image r
    everywhere. ``STEM.png`` is the mask of an image: region ids from 0, 255 ignored. ``regions.safetensors``,
    ``embeddings.npy`` and ``neighbours.npy`` are the table of regions (``episodes.region_table``).
    ``learnt.safetensors`` is what the recipe learnt from the images, ``report.json`` the measured quality.
    """

    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.json"

    @property
    def images(self) -> Path:
        return self.folder / "images.txt"

    @property
    def regions(self) -> Path:
        return self.folder / "regions.safetensors"

    @property
    def embeddings(self) -> Path:
        return self.folder / "embeddings.npy"

    @property
    def neighbours(self) -> Path:
        return self.folder / "neighbours.npy"

    @property
    def learnt(self) -> Path:
        return self.folder / "learnt.safetensors"

    @property
    def report(self) -> Path:
        return self.folder / "report.json"

    def mask(self, image: str | Path) -> Path:
        """The mask of an image, which is named by its path in the list."""
        return self.folder / f"{Path(image).stem}.png"

    def read_manifest(self) -> dict[str, Any]:
        """Raises ``UserError`` when the folder is not complete or its manifest is damaged."""
        if not self.manifest.is_file():
            raise UserError(
                f"{self.folder}: no complete set of pseudo masks here ({self.manifest.name} is missing); "
                f"run `{CREATE_COMMAND}`"
            )
        return read_json_object(self.manifest, REMEDY)

    def check_manifest(self, settings: Mapping[str, Any]) -> None:
        """Refuse masks that were made with other ``settings``; further keys of the manifest do not count.

        Raises ``UserError`` that names every key that differs, nested ones too, or that the folder is not complete.
        """
        different = differences(self.read_manifest(), settings)
        if different:
            raise UserError(
                f"{self.manifest} does not fit the configuration: {'; '.join(different)}; change the configuration, or "
                f"make the masks again with `{CREATE_COMMAND}` (Cluster.pseudo_folder=... keeps these)"
            )

    def digests(self) -> dict[str, str]:
        """SHA-256 of the files that the table of regions is read from, as the manifest holds them."""
        return {path.name: digest_file(path) for path in (self.images, self.regions, self.embeddings, self.neighbours)}

    def check_digests(self) -> None:
        """Raise ``UserError`` where a file is not the one that was written; older manifests have no digests."""
        manifest = self.read_manifest()
        if "digests" not in manifest:
            return
        recorded = manifest["digests"] if isinstance(manifest["digests"], Mapping) else {}
        changed = [name for name, digest in self.digests().items() if recorded.get(name) != digest]
        if changed:
            raise UserError(f"{self.folder}: {', '.join(changed)} changed after it was written; {REMEDY}")

    def read_images(self) -> list[str]:
        """Paths of the images as their list had them, by row.

        Raises ``UserError`` for a file that is missing, damaged or not that of the manifest's images.
        """
        images = read_lines(self.images, REMEDY)
        digest = digest_lines(sorted(Path(image).stem for image in images))
        if self.read_manifest().get("list_digest", digest) != digest:
            raise UserError(f"{self.images}: not the images of {self.manifest.name}; {REMEDY}")
        return images

    def write_images(self, images: Sequence[str]) -> None:
        """Write ``images.txt``, atomically."""
        write_text(self.images, "".join(f"{image}\n" for image in images))
