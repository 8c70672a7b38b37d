"""Mistakes of the user, reported in one line: the exception and the wrapper of every command."""

from __future__ import annotations

import errno
import reprlib
import sys
import traceback
from collections.abc import Callable

_ADVICE = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EFBIG: "raise the limit on file sizes and run the same command again",
    errno.EACCES: "change the permissions or choose another place",
    errno.EPERM: "change the permissions or choose another place",
    errno.EROFS: "choose another place",
    errno.EIO: "the disk reports a fault; check it or choose another place",
    errno.EISDIR: "a file is needed here; remove the folder or choose another place",
    errno.ELOOP: "the link leads to itself; remove it or choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EEXIST: "a folder is needed here; remove it or choose another place",
    errno.ENOTDIR: "a folder is needed above it; choose another place",
}


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 100


class UserError(Exception):
    """A mistake the user can fix; the message names the file or key, what was expected and what to do."""


def shown(value: object) -> str:
    """A value of the user's, for a message: its ``repr`` on one line, without its middle where it is long."""
    return _BRIEF.repr(value)


def run_command(main: Callable[[list[str]], None], arguments: list[str] | None = None) -> None:
    """Run a command's ``main`` and end the process as every command of this project does.

    Exit code 0 when ``main`` returns, 2 after a ``UserError``, a full disk or a place that cannot be written
    to (one line on stderr, no traceback unless ``--debug`` is among the arguments), 130 after Ctrl-C. Any other
    exception is a bug of this project and keeps its traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        main(arguments)
    except (UserError, OSError) as error:
        message = _explain(error) if isinstance(error, OSError) else str(error)
        if message is None:
            raise
        if debug:
            traceback.print_exc()
        print(f"error: {' '.join(message.splitlines())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: the same command continues from here", file=sys.stderr)
        sys.exit(130)


def _explain(error: OSError) -> str | None:
    """One line about a disk that is full or a place that cannot be written to; None for any other error."""
    if error.errno not in _ADVICE:
        return None
    message = f"{error.strerror}; {_ADVICE[error.errno]}"
    place = error.filename2 or error.filename  # a copy that fails names its source first
    return f"{place}: {message}" if place else message
