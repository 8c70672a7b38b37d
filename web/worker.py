"""The one thread that computes: runs of several sessions take turns, photograph by photograph."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from types import TracebackType

import numpy as np

from segmenter import Segmenter
from util.errors import UserError, mistake_of
from util.logging import logger
from web.choices import Choices
from web.photographs import Photograph
from web.sessions import Session

_NETWORKS = 3  # that are kept in memory
DEFECT = "a defect of the program; its terminal says more"


class SessionRun:
    """One press of the button: every photograph without a mask of the user's is segmented, if it is not already.

    ``error`` says why it ended early; ``done`` of ``total`` counts images, twice those that are looked at before.
    """

    def __init__(self, session: Session, key: str) -> None:
        """``key`` is that of the network among the choices."""
        self.session, self.key = session, key
        self.total = self.done = 0
        self.error: str | None = None
        self.is_running = True


class Worker:
    """A context: at its end the thread has ended."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="segmenting")
        self._network = lru_cache(maxsize=_NETWORKS)(self._load)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=True)

    def load_first(self) -> None:
        """Load the network that is chosen where the page chooses none; raises ``UserError``."""
        self._thread.submit(self._network, next(iter(self._choices.all()))).result()

    def start(self, session: Session, key: str | None) -> None:
        """Segment a session's photographs by those that are annotated, in place of an earlier run of it.

        ``key`` is a network's, or None for the first. Raises ``UserError``, also for a class that is marked nowhere.
        """
        session.require_supports()
        if key is not None and key not in self._choices.all():
            raise UserError("this network is not here any more; choose another")
        run = SessionRun(session, next(iter(self._choices.all())) if key is None else key)
        session.run = run
        self._thread.submit(self._continue, run, self._steps(run))

    def _continue(self, run: SessionRun, steps: Generator[None]) -> None:
        """Take one step, then let the next run take one."""
        try:
            next(steps)
            with suppress(RuntimeError):  # the command ends
                self._thread.submit(self._continue, run, steps)
            return
        except StopIteration:
            pass
        except (UserError, OSError) as error:
            run.error = str(mistake_of(error) or DEFECT)
        except Exception:
            logger.exception("segmenting failed")
            run.error = DEFECT
        run.is_running = False

    def _steps(self, run: SessionRun) -> Generator[None]:
        session = run.session
        segmenter = self._network(run.key).without_classes()
        with session.lock:
            supports, supports_key = session.supports(), session.supports_key()
            waiting = [each for each in session.photographs.values() if each.annotated_classes is None]
        for name, shots in supports.items():
            segmenter.describe(name, shots)
        is_compared = segmenter.compares(len(waiting))
        run.total = (1 + is_compared) * len(waiting)
        presence: dict[int, dict[str, float | None]] = {}
        further: dict[str, list[int]] = {}
        if is_compared:
            presence, further = yield from _judge_together(run, segmenter, waiting)
        made_with = run.key, is_compared, supports_key, repr(further)
        outdated = [photograph for photograph in waiting if photograph.made_with != made_with]
        run.total -= len(waiting) - len(outdated)
        with session.lock:
            for photograph in waiting:
                if photograph.made_with == made_with and photograph.number in presence:
                    photograph.judge(presence[photograph.number])
        for photograph in outdated:
            yield
            image = _image(run, photograph)
            if image is not None:
                prediction = segmenter.predict(image, found=presence.get(photograph.number))
                with session.lock:
                    if _is_wanted(run, photograph):
                        photograph.predict(prediction, made_with)
            run.done += 1

    def _load(self, key: str) -> Segmenter:
        choice = self._choices.all().get(key)
        if choice is None:
            raise UserError("this network is not here any more; choose another")
        return choice.load()


def _judge_together(
    run: SessionRun, segmenter: Segmenter, photographs: Sequence[Photograph]
) -> Generator[None, None, tuple[dict[int, dict[str, float | None]], dict[str, list[int]]]]:
    """What is there in each, by its number, and the numbers of those that become further supports of each class."""
    looks = {}
    for photograph in photographs:
        yield
        image = _image(run, photograph)
        if image is not None:
            looks[photograph] = segmenter.look(image)
        run.done += 1
    yield
    seen = [*looks]
    taken = segmenter.extend([*looks.values()], lambda number: _image(run, seen[number]))
    presence = segmenter.presence_in([*looks.values()])
    return (
        {photograph.number: each for photograph, each in zip(seen, presence, strict=True)},
        {name: [seen[number].number for number in numbers] for name, numbers in taken.items()},
    )


def _image(run: SessionRun, photograph: Photograph) -> np.ndarray | None:
    """None where it is not wanted any more."""
    with run.session.lock:
        return photograph.image() if _is_wanted(run, photograph) else None


def _is_wanted(run: SessionRun, photograph: Photograph) -> bool:
    return run.session.run is run and photograph.number in run.session.photographs
