"""What browsers have given: a session for each, in a folder that is deleted when it is left alone, or at the end."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.supports import Support
from util.errors import UserError
from util.files import make_folder
from util.images import MAX_CLASSES, check_same_size
from util.images.mask_files import doubt_about, marks_of
from web.photographs import Photograph

if TYPE_CHECKING:
    from web.worker import SessionRun

MOST_SESSIONS = 20
MOST_PHOTOGRAPHS = 200
MOST_PIXELS_TOGETHER = 500_000_000  # each takes four bytes of disk for each class
MOST_LETTERS = 60  # of a class's name
_IDLE_SECONDS = 3600.0
_FIRST_CLASS = "object"
_VOID = 255  # in a mask file: not counted, or the object where it is the only value


class Session:
    """Photographs and classes of one browser. ``lock`` is held by whoever uses it; classes have numbers from 1 on."""

    def __init__(self, folder: Path) -> None:
        self.lock = threading.RLock()
        self.photographs: dict[int, Photograph] = {}
        self.classes = [_FIRST_CLASS]
        self.run: SessionRun | None = None
        self._folder = folder
        self._numbers = 0  # of photographs; none is used twice, so that no browser shows an old picture

    def add_photograph(self, name: str, data: bytes) -> Photograph:
        """Keep an image file called ``name``. Raises ``UserError`` where it cannot be read or there are too many."""
        if len(self.photographs) == MOST_PHOTOGRAPHS:
            raise UserError(f"{name}: {MOST_PHOTOGRAPHS} photographs are here already; predict.py takes any number")
        make_folder(self._folder)
        self._numbers += 1
        photograph = Photograph(self._numbers, name, data, self._folder)
        together = sum(height * width for height, width in (each.size for each in self.photographs.values()))
        if together + photograph.size[0] * photograph.size[1] > MOST_PIXELS_TOGETHER:
            photograph.remove()
            raise UserError(f"{name}: more than {MOST_PIXELS_TOGETHER:,} pixels together; predict.py takes any number")
        self.photographs[photograph.number] = photograph
        return photograph

    def photograph(self, number: int) -> Photograph:
        """Raises ``UserError`` for one that is not here."""
        if number not in self.photographs:
            raise UserError("this photograph is not here any more; reload the page")
        return self.photographs[number]

    def remove_photograph(self, number: int) -> None:
        """Delete it and its files."""
        self.photograph(number).remove()
        del self.photographs[number]

    def annotate(self, number: int, values: bytes) -> None:
        """Keep a painted mask: a byte for each pixel, row after row, the number of a class or 0. ``UserError``."""
        photograph = self.photograph(number)
        mask = np.frombuffer(values, dtype=np.uint8)
        if mask.size != photograph.size[0] * photograph.size[1]:
            raise UserError(f"{photograph.name}: a mask of {mask.size:,} pixels, its own are other; reload the page")
        if int(mask.max(initial=0)) > len(self.classes):
            raise UserError(f"{photograph.name}: a class in its mask is not here any more; reload the page")
        photograph.annotate(mask.reshape(photograph.size))

    def annotate_by_file(self, number: int, name: str, data: bytes, class_number: int) -> str:
        """Keep the mask in a file's bytes; returns how it was understood.

        A mask of one value marks the class ``class_number``; the values of others are the numbers of classes. Raises
        ``UserError``.
        """
        photograph = self.photograph(number)
        ids, understood = marks_of(data, name)
        check_same_size(photograph.name, photograph.size, name, ids.shape)
        values = [value for value in np.unique(ids).tolist() if value]
        if not values:
            raise UserError(f"{name}: marks no object; its pixels must be other than 0")
        numbers = [value for value in values if value != _VOID] or [_VOID]
        if len(numbers) > 1 and numbers[-1] > len(self.classes):
            listed = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
            raise UserError(f"{name}: has the values {listed}; add classes until there are {numbers[-1]}, or mark one")
        mask = np.where(ids == numbers[0], np.uint8(self._number(class_number)), np.uint8(0))
        if len(numbers) > 1:
            mask = np.where(ids == _VOID, np.uint8(0), ids)
        photograph.annotate(mask)
        doubt = doubt_about((mask > 0).astype(np.uint8))
        notes = [note for note in (understood, doubt) if note]
        return f"{name}: {int((mask > 0).sum()):,} pixels are marked" + "".join(f"; {note}" for note in notes)

    def add_class(self, name: str) -> None:
        """A further class. Raises ``UserError`` for a name that is there, or is none."""
        if len(self.classes) == MAX_CLASSES:
            raise UserError(f"{MAX_CLASSES} classes are here already, the most that a mask can hold")
        self.classes.append(self._free_name(name))

    def rename_class(self, number: int, name: str) -> None:
        """Raises what ``add_class`` raises."""
        if name.strip() != self.classes[self._number(number) - 1]:
            self.classes[number - 1] = self._free_name(name)

    def remove_class(self, number: int) -> None:
        """With what is marked of it; later classes have smaller numbers after that, and predictions are deleted."""
        if len(self.classes) == 1:
            raise UserError("the only class cannot be removed; rename it")
        del self.classes[self._number(number) - 1]
        self.stop()
        for photograph in self.photographs.values():
            photograph.forget_prediction()
            if photograph.annotated_classes is not None:
                photograph.annotate(_without(photograph.annotation(), number))

    def supports(self) -> dict[str, list[Support]]:
        """The annotated images of each class. Raises ``UserError`` for a class that is marked nowhere."""
        self.require_supports()
        supports: dict[str, list[Support]] = {name: [] for name in self.classes}
        for photograph in self.photographs.values():
            if photograph.annotated_classes:
                image, mask = photograph.image(), photograph.annotation()
                for number in photograph.annotated_classes:
                    support = Support(photograph.name, image, (mask == number).astype(np.uint8))
                    supports[self.classes[number - 1]].append(support)
        return supports

    def require_supports(self) -> None:
        """Raises ``UserError`` for a class that is marked nowhere."""
        marked = {number for each in self.photographs.values() for number in each.annotated_classes or ()}
        for number, name in enumerate(self.classes, start=1):
            if number not in marked:
                raise UserError(f"{name}: marked in no photograph yet; open one and paint it, or remove the class")

    def supports_key(self) -> Hashable:
        """Another one whenever ``supports`` are others, but for the names of the classes."""
        annotated = [each for each in self.photographs.values() if each.annotated_classes]
        return len(self.classes), *((each.number, each.version) for each in annotated)

    def stop(self) -> None:
        """Let what is computed end after the photograph that it is at."""
        self.run = None

    def clear(self) -> None:
        """Delete everything."""
        self.stop()
        self.photographs.clear()
        self.classes = [_FIRST_CLASS]
        shutil.rmtree(self._folder, ignore_errors=True)

    def _number(self, number: int) -> int:
        if not 1 <= number <= len(self.classes):
            raise UserError("this class is not here any more; reload the page")
        return number

    def _free_name(self, name: str) -> str:
        name = " ".join(name.split())
        if not 0 < len(name) <= MOST_LETTERS or not name.isprintable():
            raise UserError(f"a class needs a name of 1 to {MOST_LETTERS} letters")
        if name in self.classes:
            raise UserError(f"{name}: there is a class of this name already; choose another")
        return name


class Sessions:
    """Every session, by the secret that its browser sends back."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._used: dict[str, float] = {}  # when, on the monotonic clock

    @contextmanager
    def opened(self, key: str | None) -> Iterator[tuple[str, Session]]:
        """A session with its key, a new one where ``key`` opens none; nobody else uses it within the block.

        Raises ``UserError`` where there are too many.
        """
        with self._lock:
            if key is None or key not in self._sessions:
                if len(self._sessions) >= MOST_SESSIONS:
                    self._forget_empty()
                if len(self._sessions) >= MOST_SESSIONS:
                    raise UserError(f"{MOST_SESSIONS} browsers use this page; close one of them, and wait an hour")
                key = secrets.token_urlsafe(32)
                # The folder is called otherwise: the key is a secret.
                self._sessions[key] = Session(self._folder / secrets.token_hex(8))
            session = self._sessions[key]
            self._used[key] = time.monotonic()
        with session.lock:
            yield key, session

    def forget_idle(self, seconds: float = _IDLE_SECONDS) -> None:
        """Delete sessions that nobody has used for so long; pages that are open ask now and then."""
        with self._lock:
            now = time.monotonic()
            idle = [key for key, used in self._used.items() if now - used > seconds]
            forgotten = [self._forget(key) for key in idle]
        for session in forgotten:
            with session.lock:
                session.clear()

    def _forget_empty(self) -> None:
        """Those without photographs: their browsers will get others."""
        for key in [key for key, session in self._sessions.items() if not session.photographs]:
            self._forget(key)

    def _forget(self, key: str) -> Session:
        del self._used[key]
        return self._sessions.pop(key)


def _without(mask: np.ndarray, number: int) -> np.ndarray:
    """The mask without a class; those after it have one less."""
    kept = np.where(mask == number, np.uint8(0), mask)
    return np.where(kept > number, kept - np.uint8(1), kept).astype(np.uint8)
