"""Public downloads, read in the same way from an unpacked folder or from the tar file they came as."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from util.errors import UserError

_GZIP = b"\x1f\x8b"
# What else downloads are packed as, by the first bytes.
_OTHER_KINDS = {b"PK": "zip", b"Rar!": "RAR", b"7z\xbc\xaf": "7z", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}
_BLOCK = 1 << 20
# The largest file that is read from a download, in bytes: images and labels have less than a megabyte.
_LARGEST = 1 << 26


class DownloadLayout(NamedTuple):
    """Which files of a download are read.

    ``bases`` are the places that may hold its ``folders``, relative to the path that the user names or to any folder
    in it; ``folders`` maps each folder to the suffix of its files. ``title`` and ``expected`` are for messages.
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


_Bases = dict[str, dict[str, Entry]]
"""The files of a download, by the base that holds them, and by folder and name."""


def open_download(path: Path, layout: DownloadLayout, is_needed: Callable[[str], bool]) -> Download:
    """List the files of ``layout`` in a folder or a tar file.

    A gzipped tar file can only be read from its beginning: it is read once, and the files whose names ``is_needed``
    accepts are kept in memory. Raises ``UserError`` for anything that is not the download, or is damaged.
    """
    if path.is_dir():
        bases = _list_folder(path, layout)
    elif not path.is_file():
        raise UserError(f"{path}: not found; expected {layout.expected}")
    else:
        bases = _read_tar(path, layout, is_needed)
    if not bases:
        raise UserError(f"{path}: nothing of {layout.title} in it; expected {layout.expected}")
    # Others may hold files of similar names by chance.
    return Download(path, max(bases.values(), key=len))


def _list_folder(path: Path, layout: DownloadLayout) -> _Bases:
    bases: _Bases = defaultdict(dict)
    tops = [path, *sorted(Path(entry.path) for entry in os.scandir(path) if entry.is_dir())]
    for folder in (top / base for top in tops for base in layout.bases):
        for name, suffix in layout.folders.items():
            for file in os.scandir(folder / name) if os.path.isdir(folder / name) else ():
                if file.name.endswith(suffix) and file.is_file():
                    bases[str(folder)][_key(name, file.name)] = Entry(file.path, Path(file.path))
    return bases


def _read_tar(path: Path, layout: DownloadLayout, is_needed: Callable[[str], bool]) -> _Bases:
    with path.open("rb") as stream:
        start = stream.read(8)
    for mark, kind in _OTHER_KINDS.items():
        if start.startswith(mark):
            raise UserError(f"{path}: a {kind} file; unpack it and give its folder, or give {layout.expected}")
    try:
        return _unpack_tar(path, layout, is_needed) if start.startswith(_GZIP) else _list_tar(path, layout)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"{path}: not a tar file, or damaged ({error}); expected {layout.expected}, download it again"
        ) from None


def _list_tar(path: Path, layout: DownloadLayout) -> _Bases:
    bases: _Bases = defaultdict(dict)
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if place := _place(member, path, layout):
                base, key = place
                bases[base][key] = Entry(f"{path}, {member.name}", Span(path, member.offset_data, member.size))
    return bases


def _unpack_tar(path: Path, layout: DownloadLayout, is_needed: Callable[[str], bool]) -> _Bases:
    bases: _Bases = defaultdict(dict)
    with (
        path.open("rb") as file,
        tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True) as progress,
        gzip.open(file) as stream,
        tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK) as archive,
    ):
        for member in archive:
            place = _place(member, path, layout)
            content = archive.extractfile(member) if place and is_needed(place[1]) else None
            if place and content is not None:
                base, key = place
                bases[base][key] = Entry(f"{path}, {member.name}", content.read())
            progress.update(file.tell() - progress.n)
        # Read on to the checksum at the very end.
        while stream.read(_BLOCK):
            pass
    return bases


def _place(member: tarfile.TarInfo, path: Path, layout: DownloadLayout) -> tuple[str, str] | None:
    """The base that a member of a tar file is in, and its name there; None if it is not part of the layout."""
    file = PurePosixPath(member.name)
    if not member.isreg() or file.is_absolute() or ".." in file.parts:
        return None
    for name, suffix in layout.folders.items():
        parts = PurePosixPath(name).parts
        base = file.parent.parts[: len(file.parent.parts) - len(parts)]
        known = any(str(PurePosixPath(*below)) in layout.bases for below in (base, base[1:]))
        if known and file.suffix == suffix and file.parent.parts == (*base, *parts):
            if member.size > _LARGEST:
                raise UserError(
                    f"{path}, {member.name}: {member.size:,} bytes; expected {layout.expected}, fetch it again"
                )
            return str(PurePosixPath(*base)), _key(name, file.name)
    return None


def _key(folder: str, name: str) -> str:
    return str(PurePosixPath(folder, name))
