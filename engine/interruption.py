"""Signals that a training heeds between two steps instead of in the middle of one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from util.errors import Terminated
from util.processes import is_one_of_several

# The stronger ones last.
_ENDINGS: tuple[type[KeyboardInterrupt] | None, ...] = (None, KeyboardInterrupt, Terminated)


class NotedSignals:
    """What signals have asked for: USR1 a checkpoint, INT (Ctrl-C) and TERM one and the end.

    ``ending`` is the exception that ends the process as the signal asks.
    """

    def __init__(self) -> None:
        self.save_asked = False
        self.ending: type[KeyboardInterrupt] | None = None
        self._at_once = False

    def agree(self, *, save_due: bool) -> bool:
        """Whether a signal has come to any process, or a checkpoint is due at any; then all of them know of it."""
        from util.distributed import highest  # not above: it needs torch, and who runs commands does not

        own = [save_due, self.save_asked, _ENDINGS.index(self.ending)]
        save_due_anywhere, save_asked, ending = highest(own)
        self.save_asked, self.ending = bool(save_asked), _ENDINGS[ending]
        return bool(save_due_anywhere) or self.save_asked or self.ending is not None

    def heed(self) -> None:
        """Raise ``KeyboardInterrupt`` after Ctrl-C, ``Terminated`` after TERM."""
        if self.ending is not None:
            raise self.ending

    @contextmanager
    def heeded_at_once(self) -> Iterator[None]:
        """INT and TERM raise anywhere in the block, which has nothing to lose."""
        self._at_once = True
        try:
            self.heed()
            yield
        finally:
            self._at_once = False
        self.heed()  # one that was raised where Python reports an exception and goes on

    def note(self, number: int, frame: object) -> None:
        """Handle a signal. A second Ctrl-C raises at once; TERM may come twice for once, launchers pass it on."""
        if number == signal.SIGUSR1:
            self.save_asked = True
            return
        is_second = number == signal.SIGINT and self.ending is KeyboardInterrupt
        self.ending = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if self._at_once or is_second:
            raise self.ending


@contextmanager
def noted_signals() -> Iterator[NotedSignals]:
    """Note the signals that arrive in the block; what is not heeded there is heeded at its end.

    INT and TERM stay ignored where the process was started to ignore them. Where the block fails, TERM ends one of
    several processes without a word: torchrun sends it because another failed, which says why.
    """
    noted = NotedSignals()
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    earlier = {number: signal.signal(number, noted.note) for number in (*numbers, signal.SIGUSR1)}
    try:
        yield noted
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
        if noted.ending is Terminated and is_one_of_several() and isinstance(sys.exc_info()[1], Exception):
            os.kill(os.getpid(), signal.SIGTERM)
    noted.heed()
