"""One command at a time in a folder."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from util.errors import UserError
from util.files import make_folder, name_errors
from util.logging import logger

_TAKEN = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def only_process_in(folder: Path, lock: str = ".lock") -> Iterator[None]:
    """Keep other processes that take this lock out of ``folder``, which is made, while the block runs.

    Raises ``UserError`` that names the process that is in it. The system releases the lock of a process that dies,
    however it dies; its workers do not hold it. The file of the lock stays in the folder: removing it would let two
    processes hold locks of two files of that name. Where the file system knows no locks, a line in the log says so.
    """
    make_folder(folder)
    with (folder / lock).open("ab+", buffering=0) as stream:
        _lock(stream.fileno(), folder)
        with name_errors(folder / lock):
            stream.truncate(0)
            stream.write(str(os.getpid()).encode())
        yield


def _lock(descriptor: int, folder: Path) -> None:
    try:
        # Not flock: the workers of a killed process would hold that until they end.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            other = os.pread(descriptor, 20, 0).decode(errors="replace") or "unknown"
            message = f"{folder}: process {other} is working here; wait for it or choose another folder"
            raise UserError(message) from None
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning("%s: no locks on this file system; start only one command at a time here", folder)
