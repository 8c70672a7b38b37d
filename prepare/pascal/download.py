"""Public files over HTTP: resumed where they broke off, and checked before they are used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from util.errors import UserError
from util.files import digest_file, make_folder, name_errors

_TIMEOUT_SECONDS = 60
_BLOCK = 1 << 20
_PARTIAL_CONTENT = 206
_RANGE_NOT_SATISFIABLE = 416


class PublicFile(NamedTuple):
    """The address of a file, and the MD5 (hex) that it must have."""

    address: str
    md5: str

    @property
    def name(self) -> str:
        return self.address.rsplit("/", 1)[-1]


def fetch_all(files: Sequence[PublicFile], folder: Path) -> list[Path]:
    """The paths of the files in ``folder``; missing ones are fetched, and all are checked.

    Raises ``UserError`` if one cannot be fetched, with the addresses of those that are missing.
    """
    paths = []
    for file in files:
        try:
            paths.append(fetch(file, folder))
        except UserError as error:
            missing = [other.address for other in files if not (folder / other.name).exists()]
            advice = f"the same command continues; or fetch by hand into {folder}: {' '.join(missing)}"
            raise UserError(f"{error}; {advice}" if missing else str(error)) from None
    return paths


def fetch(file: PublicFile, folder: Path) -> Path:
    """The path of the file in ``folder``, fetched if it is missing, and checked.

    Raises ``UserError`` if it cannot be fetched, or if its MD5 is wrong.
    """
    path, partial = folder / file.name, folder / f"{file.name}.part"
    if path.exists():
        _check(path, file, advice="delete it, and the same command fetches it")
        return path
    make_folder(folder)
    with name_errors(partial):
        _receive(file.address, partial)
    try:
        _check(partial, file, advice="deleted")
    except UserError:
        # Resuming after wrong bytes cannot make the file right.
        partial.unlink()
        raise
    return partial.rename(path)


def _receive(address: str, partial: Path) -> None:
    """Fetch the rest of ``partial``; a server that cannot resume sends everything again."""
    start = partial.stat().st_size if partial.exists() else 0
    response = _open(address, start)
    if response is None:
        return
    with response:
        start = start if response.status == _PARTIAL_CONTENT else 0
        total = start + (response.length or 0)
        progress = tqdm(total=total or None, initial=start, desc=partial.stem, unit="B", unit_scale=True)
        with progress, partial.open("ab" if start else "wb") as stream:
            for block in _blocks(response, address):
                stream.write(block)
                progress.update(len(block))
    if partial.stat().st_size < total:
        raise UserError(f"{address}: broke off after {partial.stat().st_size:,} of {total:,} bytes")


def _open(address: str, start: int) -> HTTPResponse | None:
    """The response of the server, None if there is nothing from byte ``start`` on."""
    request = Request(address, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        return urlopen(request, timeout=_TIMEOUT_SECONDS)
    except HTTPError as error:
        if start and error.code == _RANGE_NOT_SATISFIABLE:
            return None
        raise UserError(f"{address}: the server answered {error.code} ({error.reason})") from None
    except (OSError, HTTPException) as error:
        raise UserError(f"{address}: cannot be reached ({getattr(error, 'reason', error)})") from None


def _blocks(response: HTTPResponse, address: str) -> Iterator[bytes]:
    try:
        while block := response.read(_BLOCK):
            yield block
    except (OSError, HTTPException) as error:
        raise UserError(f"{address}: the connection broke off ({error})") from None


def _check(path: Path, file: PublicFile, *, advice: str) -> None:
    digest = digest_file(path, "md5")
    if digest != file.md5:
        raise UserError(f"{path}: not the file of {file.address} (MD5 is {digest}, expected {file.md5}); {advice}")
