"""Label PNGs that are made of a user's masks: a repeated command makes only those whose file has changed.

``SegmentationClassAug.json`` beside their folder says what they were made with, and the digest of each one's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prepare.folder.mask_sources import Mask
from prepare.links import is_made
from prepare.workers import for_each
from util.device import available_cores
from util.errors import UserError
from util.files import digest_file, read_json, remove_left_overs, write_json
from util.images import write_label
from util.logging import logger
from util.settings import require_same

# Part of the settings: to be raised when the same files come to mean other masks.
_VERSION = 1


def check_made_masks(folder: Path, settings: Mapping[str, Any] | None) -> None:
    """Raise ``UserError`` when ``folder`` holds masks that were not made with ``settings`` (None: not made at all)."""
    manifest = _manifest(folder)
    if settings is None:
        if manifest.exists():
            raise UserError(
                f"{manifest}: the masks there were made of others; choose another --name or delete {folder}"
            )
        return
    if not any(folder.glob("[!.]*.png")):
        return
    if not manifest.exists():
        raise UserError(
            f"{folder}: holds masks that were not made here (no {manifest}); delete it or choose another --name"
        )
    advice = f"use the same settings, choose another --name, or delete {folder}"
    require_same(manifest, _settings_there(manifest), {"version": _VERSION, **settings}, advice=advice)


def make_masks(folder: Path, masks: Mapping[str, Mask], settings: Mapping[str, Any], workers: int) -> None:
    """Write each mask under its file name, by ``workers`` processes, where it is not made of the same file already.

    What is left of a changed file goes first, so that an interrupted run leaves no mask that is not as the manifest
    says. Raises ``UserError`` for masks that cannot be read.
    """
    manifest = _manifest(folder)
    there = read_json(manifest)["sources"] if manifest.exists() else {}
    sources = _digests(masks)
    for name, digest in sources.items():
        if there.get(name) != digest:
            (folder / name).unlink(missing_ok=True)
    write_json(manifest, {"settings": {"version": _VERSION, **settings}, "sources": sources})
    missing = [(mask, folder / name) for name, mask in masks.items() if not is_made(folder / name)]
    if missing:
        for_each(_make, missing, workers=workers, title="masks")
    remove_left_overs(folder, ".png")
    logger.info("%s: %d of %d masks made", folder, len(missing), len(masks))


def _manifest(folder: Path) -> Path:
    return folder.with_suffix(".json")


def _settings_there(manifest: Path) -> dict[str, Any]:
    content = read_json(manifest)
    try:
        return dict(content["settings"])
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{manifest}: not the file that this command wrote; delete it and the masks beside it"
        ) from None


def _digests(masks: Mapping[str, Mask]) -> dict[str, str]:
    """The digest of the file that each mask comes from; several masks may share one."""
    paths = sorted({mask.path for mask in masks.values()})
    with ThreadPoolExecutor(available_cores()) as pool:
        digests = dict(zip(paths, pool.map(digest_file, paths), strict=True))
    return {name: digests[mask.path] for name, mask in masks.items()}


def _make(item: tuple[Mask, Path]) -> None:
    mask, target = item
    write_label(target, mask.read())
