"""Files written completely or not at all, content digests, and the project's folders."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from util.errors import UserError, shown
from util.logging import logger

PROJECT = Path(__file__).resolve().parent.parent


def cache_folder() -> Path:
    """Where derived files live that may be deleted at any time (``UNSUPFSS_CACHE`` or ``.cache/``)."""
    folder = Path(os.environ.get("UNSUPFSS_CACHE") or PROJECT / ".cache")
    make_folder(folder)
    return folder


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it. Raises ``UserError`` where nothing can be made, such as below ``/proc``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:
        raise UserError(f"{folder}: no folder can be made here; choose another place") from None


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; rename it to ``path`` when the block succeeds.

    A reader sees the old file or the whole new one. A block that raises leaves nothing behind. The temporary name is
    ``.NAME.PROCESS``: writers that choose their format by the suffix need to be told it. Raises what ``make_folder``
    raises.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with name_errors(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_left_overs(folder: Path, suffix: str) -> None:
    """Remove what runs that were killed in ``atomic_write`` left of files that end in ``suffix``.

    Nothing may be writing to ``folder``. Other hidden files stay: ``.image.7.png`` may belong to ``.image.7.jpg``.
    """
    temporary_name = re.compile(rf"\..+{re.escape(suffix)}\.\d+")
    for path in folder.glob(f".*{suffix}.*"):
        if temporary_name.fullmatch(path.name):
            path.unlink()


@contextmanager
def name_errors(path: Path) -> Iterator[None]:
    """Add ``path`` to an ``OSError`` of the block that names no file, such as one of a write to an open file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` a link to ``source``, or a copy of it where links fail; atomically."""
    with atomic_write(target) as temporary:
        try:
            temporary.symlink_to(source.resolve())
        except (OSError, NotImplementedError):
            shutil.copy2(source, temporary)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) atomically; raises ``UserError`` for names of files in another encoding."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        name = shown(text[: error.end].rpartition("\n")[2])
        raise UserError(f"{path}: a name is not UTF-8 and cannot be written here ({name}); rename it") from None
    write_bytes(path, data)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def replace_json_line(path: Path, record: Mapping[str, Any], key: str = "epoch") -> None:
    """Append ``record`` to a file of JSON lines, atomically; of the other lines those with a smaller ``key`` stay.

    So a run that is repeated from an earlier epoch replaces what it reported before. A line that is no such record is
    left out, and named in the log.
    """
    earlier = _earlier_lines(path, key, record[key]) if path.is_file() else []
    write_text(path, "".join(f"{line}\n" for line in [*earlier, json.dumps(record)]))


def _earlier_lines(path: Path, key: str, value: Any) -> Iterator[str]:
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            is_earlier = json.loads(line)[key] < value
        except (ValueError, KeyError, TypeError, RecursionError):
            logger.warning("%s, line %d: left out, for it is not a record with a %s", path, number, key)
            continue
        if is_earlier:
            yield line


def read_lines(path: Path, expected: str, *, missing: str | None = None) -> list[str]:
    """The lines of a UTF-8 file.

    Raises ``UserError`` for a file that is not text, which ends with ``expected``, and for a missing file, which ends
    with ``missing`` where that is given.
    """
    try:
        return read_text(path).splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: {missing or f'file not found; {expected}'}") from None
    except ValueError:  # UnicodeDecodeError is one, and so is that of a zero in the path
        raise UserError(f"{path}: not a text file in UTF-8; {expected}") from None


def read_json(path: Path, advice: str = "delete it and make it again") -> Any:
    """Read a JSON file, in UTF-8 with or without a byte order mark; raises what ``json_errors`` does."""
    with json_errors(path, advice):
        return json.loads(read_text(path))


def read_json_object(path: Path, advice: str = "delete it and make it again") -> dict[str, Any]:
    """``read_json`` of a file that holds an object; a ``UserError`` for any other value."""
    value = read_json(path, advice)
    if not isinstance(value, dict):
        raise UserError(f"{path}: {type(value).__name__} is there, an object {{...}} expected; {advice}")
    return value


@contextmanager
def json_errors(path: Path, advice: str, *, missing: str = "file not found") -> Iterator[None]:
    """Make a ``UserError`` of what goes wrong while the block reads the JSON file ``path``.

    A missing file ends with ``missing``, a malformed one with ``advice``; malformed are also values nested too deeply
    for Python, and whole numbers with more digits than it reads (4,300).
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: {missing}") from None
    except RecursionError:
        raise UserError(f"{path}: not valid JSON (nested too deeply); {advice}") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are among them
        raise UserError(f"{path}: not valid JSON ({error}); {advice}") from None


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises ``FileNotFoundError`` for a folder, a pipe and a device as well, which may have no end, and
    ``UnicodeDecodeError`` for what is not text.
    """
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return path.read_text(encoding="utf-8-sig")


def digest_lines(lines: Iterable[str]) -> str:
    """SHA-256 (hex) of the lines, each followed by a newline; names of files need not be UTF-8."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode(errors="surrogatepass") + b"\n")
    return digest.hexdigest()


def digest_file(path: Path, algorithm: str = "sha256") -> str:
    """SHA-256 (hex) of a file's bytes, or the digest by another algorithm of hashlib."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
