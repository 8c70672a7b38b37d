"""Public files over HTTP: resumed where they broke off, and checked before anything reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from util.errors import UserError
from util.files import digest_file, name_errors

_TIMEOUT_SECONDS = 60
_BLOCK = 1 << 20
_PARTIAL_CONTENT = 206
_RANGE_NOT_SATISFIABLE = 416


class PublicFile(NamedTuple):
    """Where a file is published, and the MD5 it must have."""

    address: str
    md5: str

    @property
    def name(self) -> str:
        return self.address.rsplit("/", 1)[-1]


def fetch_all(files: Sequence[PublicFile], folder: Path) -> list[Path]:
    """The files in ``folder``, fetched where they are not there yet, all of them checked.

    Raises ``UserError`` when one cannot be had, with the addresses of those that are missing.
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
    """The file in ``folder``, fetched if it is not there yet, and checked.

    Raises ``UserError`` when it cannot be had, or is not what its MD5 says.
    """
    path, partial = folder / file.name, folder / f"{file.name}.part"
    if path.exists():
        _check(path, file, advice="delete it, and the same command fetches it")
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with name_errors(partial):
        _receive(file.address, partial)
    try:
        _check(partial, file, advice="deleted")
    except UserError:
        # Nothing that is fetched behind wrong bytes makes them right.
        partial.unlink()
        raise
    return partial.rename(path)


def _receive(address: str, partial: Path) -> None:
    """Fetch what ``partial`` lacks; a server that cannot continue sends everything again."""
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
    """The answer of the server, None when there is nothing from ``start`` on."""
    request = Request(address, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        return urlopen(request, timeout=_TIMEOUT_SECONDS)
    except HTTPError as error:
        if start and error.code == _RANGE_NOT_SATISFIABLE:
            return None
        raise UserError(f"{address}: the server answers {error.code} ({error.reason})") from None
    except (OSError, HTTPException) as error:
        raise UserError(f"{address}: not reached ({getattr(error, 'reason', error)})") from None


def _blocks(response: HTTPResponse, address: str) -> Iterator[bytes]:
    try:
        while block := response.read(_BLOCK):
            yield block
    except (OSError, HTTPException) as error:
        raise UserError(f"{address}: the connection broke off ({error})") from None


def _check(path: Path, file: PublicFile, *, advice: str) -> None:
    digest = digest_file(path, "md5")
    if digest != file.md5:
        raise UserError(f"{path}: not what {file.address} should give (MD5 {digest}, not {file.md5}); {advice}")
