"""Files written completely or not at all, content digests, and the project's folders."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from util.errors import UserError

PROJECT = Path(__file__).resolve().parent.parent


# Half of a pair that JSON may write as an escape.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def cache_folder() -> Path:
    """Where derived files live that may be deleted at any time (``UNSUPFSS_CACHE`` or ``.cache/``)."""
    folder = Path(os.environ.get("UNSUPFSS_CACHE") or PROJECT / ".cache")
    make_folder(folder)
    return folder


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; rename it to ``path`` when the block succeeds.

    A reader sees the old file or the whole new one. A block that raises leaves nothing behind. The temporary name is
    ``.NAME.PROCESS``: writers that choose their format by the suffix need to be told it. Raises ``UserError`` for a
    folder in which nothing can be made, such as one below ``/proc``.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with name_errors(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises ``UserError`` where none can be made, such as below ``/proc``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:
        raise UserError(f"{folder}: no folder can be made here; choose another place") from None


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
    """Write ``text`` (UTF-8) atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def replace_json_line(path: Path, record: Mapping[str, Any], key: str = "epoch") -> None:
    """Append ``record`` to a file of JSON lines, atomically; of the other lines those with a smaller ``key`` stay.

    So a run that is repeated from an earlier epoch replaces what it reported before.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    earlier = [line for line in lines if json.loads(line)[key] < record[key]]
    write_text(path, "".join(f"{line}\n" for line in [*earlier, json.dumps(record)]))


def read_lines(path: Path, expected: str, *, missing: str | None = None) -> list[str]:
    """The lines of a UTF-8 file.

    Raises ``UserError`` for a file that is not text, which ends with ``expected``, and for a missing file, which ends
    with ``missing`` where that is given.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: {missing or f'file not found; {expected}'}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8; {expected}") from None


def read_json(path: Path, advice: str = "delete it and make it again") -> Any:
    """Read a JSON file, in UTF-8 with or without a byte order mark.

    A missing or malformed one is a ``UserError`` that names it and ends with ``advice``; so are values nested too
    deeply for Python, whole numbers with more digits than it reads (4,300), and text with half a surrogate pair, which
    is no name of a file and cannot be printed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        value = json.loads(text)
        if _SURROGATE.search(text):  # few files have any
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: file not found") from None
    except RecursionError:
        raise UserError(f"{path}: not valid JSON (nested too deeply); {advice}") from None
    except ValueError as error:  # JSONDecodeError and Unicode's errors are among them
        raise UserError(f"{path}: not valid JSON ({error}); {advice}") from None


def read_json_object(path: Path, advice: str = "delete it and make it again") -> dict[str, Any]:
    """``read_json`` of a file that holds an object; a ``UserError`` for any other value."""
    value = read_json(path, advice)
    if not isinstance(value, dict):
        raise UserError(f"{path}: {type(value).__name__} is there, an object {{...}} expected; {advice}")
    return value


def digest_lines(lines: Iterable[str]) -> str:
    """SHA-256 (hex) of the lines, each followed by a newline."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def digest_file(path: Path, algorithm: str = "sha256") -> str:
    """SHA-256 (hex) of a file's bytes, or the digest by another algorithm of hashlib."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
