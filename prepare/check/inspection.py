"""Reading an image and its label in full, collecting all that is wrong with them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from prepare.check.problems import Problem
from util.errors import UserError
from util.images import IGNORE, check_same_size, read_image, read_label

_VALUES = 256
_LISTED_VALUES = 5
_STDERR = 2


class Example(NamedTuple):
    """An image and its label, if that is to be read; ``place`` is the line of the list that names them."""

    place: str
    image: Path
    label: Path | None


class Inspection(NamedTuple):
    """What is wrong with an example; ``areas`` (classes,) int32 are its pixels of classes 1, 2, ...

    ``areas`` is None without a label, and with an image or label that training would stumble over.
    """

    problems: list[Problem]
    areas: np.ndarray | None


def inspect(example: Example, *, classes: int) -> Inspection:
    """Read image and label of an example, whose values may be 0 to ``classes`` and 255."""
    problems: list[Problem] = []
    image = _read(read_image, example.image, "image", example.place, problems)
    if example.label is None:
        return Inspection(problems, None)
    label = _read(_read_sound_label, example.label, "label", example.place, problems)
    if label is None:
        return Inspection(problems, None)
    if image is not None:
        try:
            check_same_size(example.image, image.shape[:2], example.label, label.shape)
        except UserError as error:
            problems.append(Problem("labels of another size", str(error)))
    areas = np.bincount(label.ravel(), minlength=_VALUES)
    problems += _wrong_values(example.label, areas, classes)
    sound = all(problem.is_warning for problem in problems)
    return Inspection(problems, areas[1 : classes + 1].astype(np.int32) if sound else None)


def _read(
    read: Callable[[Path], np.ndarray], path: Path, noun: str, place: str, problems: list[Problem]
) -> np.ndarray | None:
    """What ``read`` makes of the file; None, and one problem more, where it cannot."""
    if not path.is_file():
        message = f"{place}: {noun} {path} not found; correct the list or DATA.data_root"
        problems.append(Problem(f"missing {noun}s", message))
        return None
    try:
        with _decoder_messages() as messages:
            pixels = _read_from_disk(read, path)
    except UserError as error:
        problems.append(Problem(f"unreadable {noun}s", str(error)))
        return None
    damage = [message for message in messages if "JPEG" in message]
    if damage:
        message = f"{path}: decoded, but perhaps damaged ({damage[0]}); look at it, or copy it again"
        problems.append(Problem(f"doubtful {noun}s", message, is_warning=True))
    return pixels


def _read_from_disk(read: Callable[[Path], np.ndarray], path: Path) -> np.ndarray:
    """A disk that fails, or forbids, is a problem of this file; the next one may be sound."""
    try:
        return read(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; allow reading it, or copy it again") from None


def _read_sound_label(path: Path) -> np.ndarray:
    """``read_label``, and a check of the PNG's checksums: damage that leaves it decodable changes classes unseen."""
    label = read_label(path)
    try:
        with Image.open(path) as image:
            image.verify()
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path}: damaged label ({error}); copy it again") from None
    return label


@contextmanager
def _decoder_messages() -> Iterator[list[str]]:
    """Keep what C libraries write to the terminal in the block; the list has its lines afterwards.

    libjpeg fills what it cannot read with grey, says so there, and does not know the name of the file.
    """
    lines: list[str] = []
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        terminal = os.dup(_STDERR)
        os.dup2(file.fileno(), _STDERR)
        try:
            yield lines
        finally:
            os.dup2(terminal, _STDERR)
            os.close(terminal)
        file.seek(0)
        lines += file.read().decode(errors="replace").splitlines()


def _wrong_values(path: Path, areas: np.ndarray, classes: int) -> Iterator[Problem]:
    """What is wrong with a label whose value v covers ``areas[v]`` pixels."""
    if areas[IGNORE] == areas.sum():
        yield Problem(
            "void labels", f"{path}: all of it is {IGNORE}, not counted; label it or take the image off the list"
        )
    wrong = [int(value) for value in np.flatnonzero(areas[:IGNORE]) if value > classes]
    if wrong:
        values = ", ".join(map(str, wrong[:_LISTED_VALUES])) + (", ..." if len(wrong) > _LISTED_VALUES else "")
        yield Problem(
            "values out of range",
            f"{path}: {int(areas[wrong].sum()):,} pixels of value {values}; expected 0 to {classes} and {IGNORE}; "
            "correct the label or DATA.classes",
        )
