"""Signals that are noted, and when they are heeded."""

from __future__ import annotations

import os
import signal

import pytest

from engine.interruption import noted_signals
from util.errors import Terminated


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "ending"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_is_heeded_when_asked_for_or_at_the_end(number: int, ending: type[BaseException]) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    with pytest.raises(KeyboardInterrupt) as raised, noted_signals() as signals:
        signals.heed()
        send(number)
        assert signals.agree(save_due=False) and not signals.save_asked
        signals.heed()
        raise AssertionError("not heeded")
    assert raised.type is ending
    with pytest.raises(KeyboardInterrupt) as raised, noted_signals():
        send(number)
    assert raised.type is ending
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == handlers


def test_usr1_asks_for_a_checkpoint_alone() -> None:
    with noted_signals() as signals:
        assert not signals.agree(save_due=False)
        send(signal.SIGUSR1)
        assert signals.agree(save_due=False) and signals.save_asked
        signals.heed()


def test_a_second_ctrl_c_raises_at_once_and_a_second_term_does_not() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt) as raised, noted_signals():
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            send(number)
            reached.append(number)
    assert reached == [signal.SIGTERM, signal.SIGTERM, signal.SIGINT]
    assert raised.type is KeyboardInterrupt


def test_a_block_with_nothing_to_lose() -> None:
    """Signals raise within it, those from before at its start, and those that Python swallowed at its end."""
    with pytest.raises(Terminated), noted_signals() as signals, signals.heeded_at_once():
        send(signal.SIGTERM)
        raise AssertionError("not raised")
    with pytest.raises(Terminated), noted_signals() as signals:
        send(signal.SIGTERM)
        with signals.heeded_at_once():
            raise AssertionError("not raised")
    with pytest.raises(KeyboardInterrupt), noted_signals() as signals:
        with signals.heeded_at_once():
            try:
                send(signal.SIGINT)
            except KeyboardInterrupt:
                pass
        raise AssertionError("not raised")


def test_what_the_process_was_started_to_ignore_stays_ignored() -> None:
    """A shell makes its background jobs deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noted_signals() as signals:
            send(signal.SIGINT)
            assert not signals.agree(save_due=False)
    finally:
        signal.signal(signal.SIGINT, before)
