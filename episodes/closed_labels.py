"""Labels that a process may not open, so that an unsupervised run opens none.

They are refused where Python opens files, whoever opens them and by whatever name: another spelling, a link. Code that
opens files by itself, as OpenCV's ``imread`` does, is not seen; the project has none that could read a label.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from episodes.lists import ListLine, scan_list
from util.errors import UserError

Pair = tuple[str, str | None]
"""An image and its label, as a list names them, relative to its root."""

# Device and inode: what all names of a file or folder have in common.
_Identity = tuple[int, int]


class OpenedLabelError(Exception):
    """A label was about to be opened by a run that may not: a defect of ours, not a mistake of the user's."""


@dataclass(frozen=True)
class _ClosedLabels:
    """Closed is a file with one of these ``suffixes`` if it, or the folder that it is in, is one of ``identities``."""

    identities: frozenset[_Identity]
    suffixes: tuple[str, ...]

    def check(self, path: str) -> None:
        """Raise ``OpenedLabelError`` if ``path`` is closed."""
        if not path.lower().endswith(self.suffixes):
            return
        if not self.identities.isdisjoint(_identities([path, os.path.dirname(path) or os.curdir])):
            raise OpenedLabelError(f"{path}: a label, and an unsupervised run opens none; please report this defect")


_closed: _ClosedLabels | None = None


@contextmanager
def closed_labels(
    root: Path, closed: Iterable[Pair], *, opened: Iterable[Pair] = (), masks: Path | None = None
) -> Iterator[None]:
    """Close the labels of the ``closed`` pairs, below ``root``: opening one in the block raises ``OpenedLabelError``.

    So does any other file with the suffix of a label in a folder of labels, one that holds nothing that stays open: the
    images of all pairs, the labels of the ``opened`` ones, and the folder ``masks``.
    """
    global _closed
    _watch_files()
    before, _closed = _closed, _find_labels(root, list(closed), list(opened), masks)
    try:
        yield
    finally:
        _closed = before


def read_pairs(list_file: Path, root: Path) -> Iterator[Pair]:
    """The pairs of a list that this run does not use otherwise: it may be missing, or have mistakes."""
    with suppress(UserError):
        for line in scan_list(list_file, root):
            if isinstance(line, ListLine):
                yield line.image, line.label


def check_open(path: str) -> None:
    """Raise ``OpenedLabelError`` for a label that is closed: for what is known of it without opening it again."""
    if _closed is not None:
        _closed.check(path)


def in_worker(start: Callable[[int], None]) -> Callable[[int], None]:
    """``start`` for the workers of a loader: the same labels are closed in them, also where they are not forked."""
    return partial(_start_closed, start, _closed)


def _start_closed(start: Callable[[int], None], closed: _ClosedLabels | None, worker: int) -> None:
    global _closed
    _watch_files()
    _closed = closed
    start(worker)


def _find_labels(root: Path, closed: list[Pair], opened: list[Pair], masks: Path | None) -> _ClosedLabels | None:
    """None where there is nothing to close."""
    base = os.path.abspath(root)
    images = {os.path.join(base, image) for image, _ in closed + opened}
    open_labels = {os.path.join(base, label) for _, label in opened if label is not None}
    labels = {os.path.join(base, label) for _, label in closed if label is not None} - images - open_labels
    if masks is not None:
        labels = {label for label in labels if os.path.dirname(label) != os.path.abspath(masks)}
    folders = _identities(_folders(labels)) - _identities(_folders(images | open_labels))
    identities = (_identities(labels) | folders) - _identities(open_labels)
    suffixes = {os.path.splitext(label)[1].lower() for label in labels}
    return _ClosedLabels(frozenset(identities), tuple(suffixes)) if identities else None


def _folders(paths: Iterable[str]) -> set[str]:
    return {os.path.dirname(path) for path in paths}


def _identities(paths: Iterable[str]) -> set[_Identity]:
    """Of those paths that exist."""
    identities = set()
    for path in paths:
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # ValueError: a name with a zero in it
            continue
        identities.add((status.st_dev, status.st_ino))
    return identities


@cache
def _watch_files() -> None:
    """Have Python ask before it opens a file; a process cannot take that back."""
    sys.addaudithook(_check_event)


def _check_event(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _closed is not None and isinstance(path := arguments[0], str | bytes | os.PathLike):
        _closed.check(os.fsdecode(path))
