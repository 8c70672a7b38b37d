"""Which classes have enough images for the episodes of each fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from episodes.folds import ALL_FOLDS, fold_classes
from prepare.check.parts import Part
from prepare.check.problems import Problem
from util.config import Config
from util.config.schema import DataSection
from util.errors import UserError

# Papers report one and five shots.
_MORE_SHOTS = 5
_PURPOSES = {"train": "training", "val": "tests"}


class ExperimentFold(NamedTuple):
    """A split that experiments use, with the classes of its episodes, counted from 1.

    ``train_classes`` is empty if no experiment trains on labels; ``shots`` is the number that the experiments set.
    """

    split: int
    train_classes: list[int]
    test_classes: list[int]
    shots: int

    @property
    def name(self) -> str:
        return "all folds" if self.split == ALL_FOLDS else f"fold {self.split}"

    def classes(self, split: str) -> list[int]:
        """Classes of the episodes drawn from the list of ``split``, "train" or "val"."""
        return self.train_classes if split == "train" else self.test_classes

    def dropped(self, split: str, data: DataSection) -> list[int]:
        """Classes that exclude an image of the list of ``split`` from its episodes by a single pixel."""
        if split == "val" or not data.drop_novel_images:
            return []
        return [number for number in self.test_classes if number not in self.train_classes]


class Counts(NamedTuple):
    """Which images of a list show which class; column ``c`` is class ``c + 1``.

    Both are bool (n, classes): ``any_pixel`` for at least one pixel of the class, ``large`` for enough for an episode.
    """

    any_pixel: np.ndarray
    large: np.ndarray

    def queries(self, classes: Sequence[int], without: Sequence[int]) -> int:
        """Number of images that can be a query of ``classes``, those with a pixel of ``without`` excluded."""
        return int((self.large[:, _columns(classes)].any(axis=1) & self._lacks(without)).sum())

    def images_of(self, number: int, without: Sequence[int]) -> int:
        """Number of images that can be query or support of a class, those with a pixel of ``without`` excluded."""
        return int((self.large[:, number - 1] & self._lacks(without)).sum())

    def _lacks(self, classes: Sequence[int]) -> np.ndarray:
        return np.logical_not(self.any_pixel[:, _columns(classes)].any(axis=1))


def find_folds(configs: Sequence[Config]) -> tuple[list[ExperimentFold], list[Problem]]:
    """The folds that the experiments use, and a problem for each that has no class to train on or to test on."""
    folds: list[ExperimentFold] = []
    problems: list[Problem] = []
    for split in sorted({config.TRAIN.split for config in configs}):
        users = [config for config in configs if config.TRAIN.split == split]
        config = users[0]
        try:
            train_classes, test_classes = fold_classes(
                config.dataset, split, config.TRAIN.use_split_coco, classes=config.DATA.classes
            )
        except UserError as error:
            problems.append(Problem("impossible folds", str(error)))
            continue
        supervised = any(not user.unsupervised for user in users)
        folds.append(ExperimentFold(split, train_classes if supervised else [], test_classes, config.TRAIN.shot))
    return folds, problems


def rare_classes(
    folds: Sequence[ExperimentFold], parts: Sequence[Part], counts: Mapping[str, Counts], data: DataSection
) -> Iterator[Problem]:
    """A problem for each class that has too few images for its episodes; a warning if only five shots are out of reach.

    ``counts`` are those of the parts that have labels, by split.
    """
    for part in parts:
        users: dict[tuple[int, int, int], list[str]] = {}
        for fold in folds if part.split in counts else ():
            for number in fold.classes(part.split):
                images = counts[part.split].images_of(number, fold.dropped(part.split, data))
                users.setdefault((number, images, fold.shots), []).append(fold.name)
        for (number, images, shots), names in users.items():
            needed = next((count for count in (shots, _MORE_SHOTS) if images <= count), None)
            if needed is not None:
                yield Problem(
                    f"classes too rare for {_times(needed, 'shot')}",
                    f"{part.list_file}: class {number} has {_times(images, 'image')} with {data.min_area:,} pixels of "
                    f"it, episodes of {_times(needed, 'shot')} need {needed + 1} ({_PURPOSES[part.split]} of "
                    f"{', '.join(names)}); use a longer list or a smaller DATA.min_area",
                    is_warning=needed > shots,
                )


def fold_tables(folds: Sequence[ExperimentFold], counts: Mapping[str, Counts], data: DataSection) -> Iterator[str]:
    """A table for each fold, of the classes that it tests, and its number of queries.

    The last one also has the classes that no fold tests. Each class is in one table only: its images are the same in
    all folds.
    """
    shown: set[int] = set()
    for fold in folds if counts else ():
        rows = [number for number in fold.test_classes if number not in shown]
        if fold is folds[-1]:
            rows += [number for number in fold.train_classes if number not in {*shown, *rows}]
        shown |= set(rows)
        yield "\n".join([*_table(fold, rows, counts, data.min_area), _queries(fold, counts, data)])


def _table(fold: ExperimentFold, rows: Sequence[int], counts: Mapping[str, Counts], min_area: int) -> Iterator[str]:
    if not rows:
        yield fold.name
        return
    yield f"{fold.name:<9}" + f"{'training list':>26}{'test list':>26}"
    yield f"{'class':>9}" + f"{'any pixel':>12}{f'{min_area:,} pixels':>14}" * 2
    for number in rows:
        line = f"{number:>9}"
        for split in ("train", "val"):
            if split in counts:
                images = counts[split]
                line += f"{images.any_pixel[:, number - 1].sum():>12,}{images.images_of(number, ()):>14,}"
            else:
                line += f"{'-':>12}{'-':>14}"
        yield line if number in fold.test_classes else f"{line}  (trained on)"


def _queries(fold: ExperimentFold, counts: Mapping[str, Counts], data: DataSection) -> str:
    phrases = [
        f"{images.queries(fold.classes(split), fold.dropped(split, data)):,} images in {_PURPOSES[split]} "
        f"(of {_times(len(fold.classes(split)), 'class', 'classes')})"
        for split, images in counts.items()
        if fold.classes(split)
    ]
    return f"  queries: {', '.join(phrases)}"


def _times(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _columns(classes: Sequence[int]) -> list[int]:
    return [number - 1 for number in classes]
