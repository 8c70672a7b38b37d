"""What a user can get wrong, told in one line: the exception and the wrapper of every command."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable

_ADVICE = {
    errno.ENOSPC: "make room and type the same command again",
    errno.EDQUOT: "make room and type the same command again",
    errno.EFBIG: "allow files of its size and type the same command again",
    errno.EACCES: "allow it or choose another place",
    errno.EPERM: "allow it or choose another place",
    errno.EROFS: "choose another place",
    errno.EEXIST: "a folder is needed here; remove it or choose another place",
    errno.ENOTDIR: "a folder is needed above it; choose another place",
}


class UserError(Exception):
    """A mistake the user can mend; the message names the file or key, what was expected, what to do."""


def run_command(main: Callable[[list[str]], None], arguments: list[str] | None = None) -> None:
    """Run a command's ``main`` and end the process the way every command of this project ends.

    Exit code 0 when ``main`` returns, 2 after a ``UserError``, a full disk or a place that cannot be written
    to (one line on stderr, no traceback unless ``--debug`` is among the arguments), 130 after Ctrl-C. Any other
    exception is a defect of ours and keeps its traceback.
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
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: the same command continues from here", file=sys.stderr)
        sys.exit(130)


def _explain(error: OSError) -> str | None:
    """One line about a disk that is full or a place that cannot be written to; None for a defect of ours."""
    if error.errno not in _ADVICE:
        return None
    message = f"{error.strerror}; {_ADVICE[error.errno]}"
    place = error.filename2 or error.filename  # a copy that fails names its source first
    return f"{place}: {message}" if place else message
