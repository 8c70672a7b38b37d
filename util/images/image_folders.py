"""Searching folders of images and masks: what counts as a file of the user's, and what is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from util.images import IMAGE_SUFFIXES
from util.logging import logger

# Besides hidden ones: what systems and disks put into folders, in lower case.
_SYSTEM_NAMES = {
    *("@eadir", "#recycle", "$recycle.bin", "__macosx", "lost+found", "system volume information"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}
# Tools write these next to images; they are left out without a word.
_COMPANIONS = {".json", ".txt", ".xml", ".csv", ".md", ".yaml", ".yml", ".html", ".pdf", ".xmp"}


def list_images(folder: Path, *, recursive: bool = True) -> list[Path]:
    """The images in ``folder`` as ``find_files``; one line in the log counts broken links and files of unknown kind."""
    files = list(_files(folder, recursive))
    images = _with_suffix(files, IMAGE_SUFFIXES)
    others = set(files) - set(images)
    left_out = Counter(_kind(path) for path in others if path.suffix.lower() not in _COMPANIONS)
    if left_out:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
        logger.warning("%s: %d files left out (%s)", folder, left_out.total(), kinds)
    return images


def find_files(folder: Path, suffixes: Collection[str], *, recursive: bool = True) -> list[Path]:
    """The files in ``folder``, and in its subfolders if ``recursive``, that have one of the ``suffixes``, sorted.

    ``suffixes`` are in lower case, like ``IMAGE_SUFFIXES``; those of the files may be in any case. Left out are hidden
    files and folders (some systems keep previews under names like ``._photo.jpg``) and those of the system, like
    ``@eaDir``. Links to folders are followed; each folder is searched once, by its own path rather than by a link.
    """
    return _with_suffix(_files(folder, recursive), suffixes)


def _files(folder: Path, recursive: bool) -> Iterator[Path]:
    """Everything in the folder that is not a folder, whatever it is, broken links included."""
    seen: set[Path] = set()
    own, linked = [folder], list[Path]()
    while own or linked:
        place = own.pop() if own else linked.pop(0)
        if place.resolve() in seen:
            continue
        seen.add(place.resolve())
        with os.scandir(place) as entries:
            visible = sorted(entry.name for entry in entries if not _is_system_name(entry.name))
        for path in (place / name for name in visible):
            if not path.is_dir():
                yield path
            elif recursive:
                (linked if path.is_symlink() else own).append(path)


def _is_system_name(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _with_suffix(paths: Iterable[Path], suffixes: Collection[str]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in suffixes and path.is_file())


def _kind(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return "broken link"
    if path.exists() and not path.is_file():
        return "pipe or device"
    return path.suffix.lower() or "without suffix"
