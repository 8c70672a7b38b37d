"""Label PNGs made from a user's masks: a repeated command makes only those whose source file has changed.

``SegmentationClassAug.json`` next to their folder records the settings they were made with, and the digest of each
source file.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prepare.folder.mask_sources import Mask
from prepare.links import is_made
from prepare.workers import for_each
from util.errors import UserError
from util.files import digest_file, read_json, remove_left_overs, write_json
from util.images import write_label
from util.logging import logger
from util.processes import available_cores
from util.settings import require_same

# Part of the settings; increase it when the same files come to give different masks.
_VERSION = 1


def check_made_masks(folder: Path, settings: Mapping[str, Any] | None) -> None:
    """Raise ``UserError`` if ``folder`` holds masks that were not made with ``settings`` (None: links, not made)."""
    manifest = _manifest(folder)
    if settings is None:
        if manifest.exists():
            raise UserError(
                f"{manifest}: its masks were made from masks of another kind; choose another --name or delete {folder}"
            )
        return
    if all(path.is_symlink() for path in folder.glob("[!.]*.png")):  # links to masks that were labels as they are
        return
    if not manifest.exists():
        raise UserError(
            f"{folder}: holds masks that this command did not make (no {manifest}); delete it or choose another --name"
        )
    advice = f"use the same settings, choose another --name, or delete {folder}"
    previous, _ = _read_manifest(manifest)
    require_same(manifest, previous, {"version": _VERSION, **settings}, advice=advice)


def make_masks(folder: Path, masks: Mapping[str, Mask], settings: Mapping[str, Any], workers: int) -> None:
    """Write each mask under its file name, in ``workers`` processes, unless it was already made from the same file.

    Masks of changed files are deleted first, so that an interrupted run leaves no mask that contradicts the manifest.
    Raises ``UserError`` for masks that cannot be read.
    """
    manifest = _manifest(folder)
    previous = _read_manifest(manifest)[1] if manifest.exists() else {}
    sources = _digests(masks)
    for name, digest in sources.items():
        if previous.get(name) != digest:
            (folder / name).unlink(missing_ok=True)
    write_json(manifest, {"settings": {"version": _VERSION, **settings}, "sources": sources})
    missing = [(mask, folder / name) for name, mask in masks.items() if not is_made(folder / name)]
    if missing:
        for_each(_make, missing, workers=workers, title="masks")
    remove_left_overs(folder, ".png")
    logger.info("%s: %d of %d masks made", folder, len(missing), len(masks))


def _manifest(folder: Path) -> Path:
    return folder.with_suffix(".json")


def _read_manifest(manifest: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that masks were made with, and the digest of each one's source file."""
    match read_json(manifest):
        case {"settings": dict(settings), "sources": dict(sources)}:
            return settings, sources
    raise UserError(f"{manifest}: not the file that this command wrote; delete it and the masks next to it")


def _digests(masks: Mapping[str, Mask]) -> dict[str, str]:
    """The digest of the file that each mask comes from; several masks may share a file."""
    paths = sorted({mask.path for mask in masks.values()})
    with ThreadPoolExecutor(available_cores()) as pool:
        digests = dict(zip(paths, pool.map(digest_file, paths), strict=True))
    return {name: digests[mask.path] for name, mask in masks.items()}


def _make(mask_and_target: tuple[Mask, Path]) -> None:
    mask, target = mask_and_target
    write_label(target, mask.read())
