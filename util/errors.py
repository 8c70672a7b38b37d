"""What a user can get wrong, told in one line: the exception and the wrapper of every command."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable


class UserError(Exception):
    """A mistake the user can mend; the message names the file or key, what was expected, what to do."""


def run_command(main: Callable[[list[str]], None], arguments: list[str] | None = None) -> None:
    """Run a command's ``main`` and end the process the way every command of this project ends.

    Exit code 0 when ``main`` returns, 2 after a ``UserError`` (one line on stderr, no traceback unless
    ``--debug`` is among the arguments), 130 after Ctrl-C. Any other exception is a defect of ours and keeps
    its traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        main(arguments)
    except UserError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: the same command continues from here", file=sys.stderr)
        sys.exit(130)
