"""Public downloads, read in the same way from an unpacked folder or from the tar file they came as."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from util.errors import UserError

_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 20


class DownloadLayout(NamedTuple):
    """Which files of a download are read.

    ``bases`` are the places that may hold its ``folders``, relative to the path that the user names; ``folders`` maps
    each folder to the suffix of its files. ``title`` and ``expected`` are for messages.
    """

    title: str
    expected: str
    bases: tuple[str, ...]
    folders: dict[str, str]


class Span(NamedTuple):
    """``size`` bytes of a file, from ``start``."""

    container: Path
    start: int
    size: int


class Entry(NamedTuple):
    """A file of a download: on disk, inside a tar file, or already read; ``place`` is its name in messages."""

    place: str
    source: Path | Span | bytes

    def read(self) -> bytes:
        if isinstance(self.source, bytes):
            return self.source
        if isinstance(self.source, Path):
            return self.source.read_bytes()
        with self.source.container.open("rb") as stream:
            stream.seek(self.source.start)
            return stream.read(self.source.size)


@dataclass(frozen=True)
class Download:
    """The files of a download, by folder and name: ``entries["JPEGImages/2007_000032.jpg"]``."""

    path: Path
    entries: dict[str, Entry]


def open_download(path: Path, layout: DownloadLayout, is_needed: Callable[[str], bool]) -> Download:
    """List the files of ``layout`` in a folder or a tar file.

    A gzipped tar file can only be read from its beginning: it is read once, and the files whose names ``is_needed``
    accepts are kept in memory. Raises ``UserError`` for anything that is not the download, or is damaged.
    """
    if path.is_dir():
        entries = _list_folder(path, layout)
    elif not path.is_file():
        raise UserError(f"{path}: not found; expected {layout.expected}")
    else:
        entries = _read_tar(path, layout, is_needed)
    if not entries:
        raise UserError(f"{path}: nothing of {layout.title} in it; expected {layout.expected}")
    return Download(path, entries)


def _list_folder(path: Path, layout: DownloadLayout) -> dict[str, Entry]:
    """The files of the base that has most: others may hold files of similar names by chance."""
    candidates = (
        {
            _key(folder, file.name): Entry(str(file), file)
            for folder, suffix in layout.folders.items()
            if (path / base / folder).is_dir()
            for file in (path / base / folder).iterdir()
            if file.suffix == suffix
        }
        for base in layout.bases
    )
    return max(candidates, key=len)


def _read_tar(path: Path, layout: DownloadLayout, is_needed: Callable[[str], bool]) -> dict[str, Entry]:
    try:
        with path.open("rb") as stream:
            compressed = stream.read(len(_GZIP)) == _GZIP
        return _unpack_tar(path, layout, is_needed) if compressed else _list_tar(path, layout)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"{path}: not a tar file, or damaged ({error}); expected {layout.expected}, download it again"
        ) from None


def _list_tar(path: Path, layout: DownloadLayout) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    places = _places(layout)
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            key = _member_key(member, places)
            if key is not None:
                entries[key] = Entry(f"{path}, {member.name}", Span(path, member.offset_data, member.size))
    return entries


def _unpack_tar(path: Path, layout: DownloadLayout, is_needed: Callable[[str], bool]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    places = _places(layout)
    with (
        path.open("rb") as file,
        tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True) as progress,
        gzip.open(file) as stream,
        tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK) as archive,
    ):
        for member in archive:
            key = _member_key(member, places)
            content = archive.extractfile(member) if key is not None and is_needed(key) else None
            if key is not None and content is not None:
                entries[key] = Entry(f"{path}, {member.name}", content.read())
            progress.update(file.tell() - progress.n)
        # Read on to the checksum at the very end.
        while stream.read(_BLOCK):
            pass
    return entries


def _places(layout: DownloadLayout) -> dict[tuple[str, str], str]:
    """The folder of the layout by (folder in the tar file, suffix)."""
    return {
        (str(PurePosixPath(base, folder)), suffix): folder
        for base in layout.bases
        for folder, suffix in layout.folders.items()
    }


def _member_key(member: tarfile.TarInfo, places: dict[tuple[str, str], str]) -> str | None:
    """The name of a tar file's member in ``Download.entries``, None if it is not part of the layout."""
    path = PurePosixPath(member.name)
    folder = places.get((str(path.parent), path.suffix))
    return _key(folder, path.name) if folder is not None and member.isreg() else None


def _key(folder: str, name: str) -> str:
    return str(PurePosixPath(folder, name))
