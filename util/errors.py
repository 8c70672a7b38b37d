"""Mistakes of the user, reported in one line: the exception and the wrapper of every command."""

from __future__ import annotations

import errno
import os
import reprlib
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper

from util.launch import end_before_work, speaks_for_all

_ADVICE = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EFBIG: "raise the limit on file sizes and run the same command again",
    errno.EACCES: "change the permissions or choose another place",
    errno.EPERM: "change the permissions or choose another place",
    errno.EROFS: "choose another place",
    errno.ENOMEM: "memory ran out; free some and run the same command again",
    errno.EMFILE: "raise the limit on open files (ulimit -n) and run the same command again",
    errno.EIO: "the disk reports a fault; check it or choose another place",
    errno.EISDIR: "a file is needed here; remove the folder or choose another place",
    errno.ELOOP: "the link leads to itself; remove it or choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EEXIST: "a folder is needed here; remove it or choose another place",
    errno.ENOTDIR: "a folder is needed above it; choose another place",
}


_CONTINUES = "the same command continues from what is on the disk"
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 100


class UserError(Exception):
    """A mistake the user can fix; the message names the file or key, what was expected and what to do.

    It is one line, also where it quotes another library or the name of a file.
    """

    exit_code = 2

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())


class UnfinishedError(UserError):
    """Of several files some could not be used, and the command did its work for the others."""

    exit_code = 1


def shown(value: object) -> str:
    """A value of the user's, for a message: its ``repr`` on one line, without its middle where it is long."""
    return _BRIEF.repr(value)


def first_of(problems: Sequence[str]) -> UserError:
    """One mistake for several files that are wrong: what is wrong with the first, and how many more there are."""
    more = f" (and {len(problems) - 1:,} more files)" if len(problems) > 1 else ""
    return UserError(problems[0] + more)


class Terminated(KeyboardInterrupt):
    """The signal TERM. Whatever cleans up after Ctrl-C does so after this."""


def run_command(main: Callable[[list[str]], None], arguments: list[str] | None = None) -> None:
    """Run a command's ``main`` and end the process as every command of this project does.

    Exit code 0 when ``main`` returns, 2 after a ``UserError``, a full disk or a place that cannot be written
    to (one line on stderr, no traceback unless ``--debug`` is among the arguments), 1 after an ``UnfinishedError``, 130
    after Ctrl-C, 143 after TERM.
    These print a line too: the text of the exception, where a command gives it one. Any other exception is a bug of
    this project and keeps its traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text; as stderr does
    try:
        with _interruptible():
            main(arguments)
    except (UserError, OSError) as error:
        mistake = mistake_of(error)
        if mistake is None:
            raise
        if debug:
            traceback.print_exc()
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(mistake.exit_code)
    except KeyboardInterrupt as interruption:
        if speaks_for_all():
            print(f"interrupted: {str(interruption) or _CONTINUES}", file=sys.stderr)
        sys.exit(143 if isinstance(interruption, Terminated) else 130)


@contextmanager
def importing() -> Iterator[None]:
    """Around the imports of what a command works with: they take seconds, so its words are checked before.

    Ctrl-C and TERM end the process where ``run_command`` handles them: raised within an import they may get lost.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: ours for number, ours in handlers.items() if ours in (signal.default_int_handler, _terminate)}
    for number in handlers:
        signal.signal(number, end_before_work)
    try:
        yield
    finally:
        for number, ours in handlers.items():
            signal.signal(number, ours)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and TERM raise in the block; a signal that the process was started to ignore stays ignored.

    USR1, which Slurm sends ahead of a time limit and which would end the process, is ignored where nothing heeds it.

    Processes under torchrun keep what TERM does by itself: torchrun ends them so, and says why.
    """
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminate}
    if "TORCHELASTIC_RUN_ID" in os.environ:
        del handlers[signal.SIGTERM]
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    for number, handler in handlers.items():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        _forget_term()


def _terminate(number: int, frame: object) -> None:
    raise Terminated


def _forget_term() -> None:
    if signal.getsignal(signal.SIGTERM) == _terminate:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_forget_term)  # TERM ends workers at once


def mistake_of(error: UserError | OSError) -> UserError | None:
    """What to tell the user: also of a full disk or a place that cannot be written to; None of any other error."""
    if isinstance(error, UserError):
        return error
    if error.errno not in _ADVICE:
        return None
    message = f"{error.strerror}; {_ADVICE[error.errno]}"
    place = error.filename2 or error.filename  # a copy that fails names its source first
    return UserError(f"{place}: {message}" if place else message)
