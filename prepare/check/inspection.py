"""Reads an image and its label in full and collects all that is wrong with them."""

from __future__ import annotations

import logging
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
from util.images.soft_edges import find_two_values, is_picture
from util.logging import logger

_VALUES = 256
_LISTED_VALUES = 5
_STDERR = 2


class ListedImage(NamedTuple):
    """An image and its label, None if that is not to be read; ``place`` is the line of the list that names them."""

    place: str
    image: Path
    label: Path | None


class Inspection(NamedTuple):
    """What is wrong with an image and its label; ``areas`` (classes,) int32 are the pixels of classes 1, 2, ...

    ``areas`` is None without a label, and if training could not use the image or the label.
    """

    problems: list[Problem]
    areas: np.ndarray | None


def inspect(listed: ListedImage, *, classes: int) -> Inspection:
    """Read the image and its label, whose values may be 0 to ``classes`` and 255."""
    problems: list[Problem] = []
    image = _read(read_image, listed.image, "image", listed.place, problems)
    if listed.label is None:
        return Inspection(problems, None)
    label = _read(_read_sound_label, listed.label, "label", listed.place, problems)
    if label is None:
        return Inspection(problems, None)
    if image is not None:
        try:
            check_same_size(listed.image, image.shape[:2], listed.label, label.shape)
        except UserError as error:
            problems.append(Problem("labels of another size", str(error)))
    problems += _grey_levels(listed.label, label)
    areas = np.bincount(label.ravel(), minlength=_VALUES)
    problems += _wrong_values(listed.label, areas, classes)
    sound = all(problem.is_warning for problem in problems)
    return Inspection(problems, areas[1 : classes + 1].astype(np.int32) if sound else None)


def _read(
    read: Callable[[Path], np.ndarray], path: Path, noun: str, place: str, problems: list[Problem]
) -> np.ndarray | None:
    """The result of ``read`` for the file; None if it fails, which adds a problem to ``problems``."""
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
        said = damage[0].removeprefix(f"{path}: ")
        message = f"{path}: decoded, but perhaps damaged ({said}); look at it, or copy it again"
        problems.append(Problem(f"doubtful {noun}s", message, is_warning=True))
    return pixels


def _read_from_disk(read: Callable[[Path], np.ndarray], path: Path) -> np.ndarray:
    """Turn a disk error into one about this file, since the next file may be readable."""
    try:
        return read(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; allow reading it, or copy it again") from None


def _read_sound_label(path: Path) -> np.ndarray:
    """``read_label`` with a check of the PNG's checksums: damage that leaves it decodable silently changes classes."""
    label = read_label(path)
    try:
        with Image.open(path) as image:
            image.verify()
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path}: damaged label ({error}); copy it again") from None
    return label


@contextmanager
def _decoder_messages() -> Iterator[list[str]]:
    """Catch what is logged inside the block, and what C libraries write to stderr; the list has it afterwards.

    libjpeg fills what it cannot read with grey and reports it there, without the name of the file.
    """
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        terminal = os.dup(_STDERR)
        os.dup2(file.fileno(), _STDERR)
        try:
            yield lines
        finally:
            logger.removeHandler(handler)
            os.dup2(terminal, _STDERR)
            os.close(terminal)
        file.seek(0)
        lines += file.read().decode(errors="replace").splitlines()


def _grey_levels(path: Path, label: np.ndarray) -> Iterator[Problem]:
    """A warning of values that look as if an editor or a smooth resize had made them."""
    two = find_two_values(label)
    if two is not None or is_picture(label):
        what = "grey levels, not labels" if two is None else f"soft edges between {two.low} and {two.high}"
        yield Problem(
            "labels with grey levels",
            f"{path}: {what}; training takes each level for a class: save it without smoothing",
            is_warning=True,
        )


def _wrong_values(path: Path, areas: np.ndarray, classes: int) -> Iterator[Problem]:
    """The problems of a label in which value v covers ``areas[v]`` pixels."""
    if areas[IGNORE] == areas.sum():
        yield Problem(
            "void labels", f"{path}: all of it is {IGNORE} (ignored); label it or take the image off the list"
        )
    wrong = [int(value) for value in np.flatnonzero(areas[:IGNORE]) if value > classes]
    if wrong:
        values = ", ".join(map(str, wrong[:_LISTED_VALUES])) + (", ..." if len(wrong) > _LISTED_VALUES else "")
        yield Problem(
            "values out of range",
            f"{path}: {int(areas[wrong].sum()):,} pixels of value {values}; expected 0 to {classes} and {IGNORE}; "
            "correct the label or DATA.classes",
        )
