"""A dataset of a few drawn images, ways to spoil it, and the command that checks it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from episodes.lists import write_list
from util.images import read_label, write_image, write_label

CLASSES, MIN_AREA = 4, 225
COUNTS = {"train": 24, "val": 28}  # of class 1 to 4: 6 and 7 large objects each


def write_dataset(folder: Path) -> None:
    """Images of an object of 225 pixels or more, with lists; every third also has a smaller one of the next class.

    The smaller ones have a pixel or 25; the upper border is void.
    """
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for row in range(count):
            shape = (44, 60) if row % 2 else (60, 44)
            image, label = names(split, row)
            write_image(folder / image, rng.integers(0, 255, (*shape, 3), dtype=np.uint8))
            mask = np.zeros(shape, dtype=np.uint8)
            mask[:2] = 255
            mask[5:20, 5 : 20 + row % 5] = 1 + row % CLASSES
            if row % 3 == 0:
                size = 1 if row % 2 else 5
                mask[25 : 25 + size, 5 : 5 + size] = 1 + (row + 1) % CLASSES
            write_label(folder / label, mask)
        write_list(folder / f"{split}.txt", [names(split, row) for row in range(count)])


def names(split: str, row: int) -> tuple[str, str]:
    """Image and label, as a list names them."""
    return f"JPEGImages/{split}{row:02d}.jpg", f"SegmentationClassAug/{split}{row:02d}.png"


def overrides(data: Path, *more: str) -> list[str]:
    lists = [f"DATA.{split}_list={data / split}.txt" for split in COUNTS]
    return [f"DATA.data_root={data}", *lists, f"DATA.classes={CLASSES}", f"DATA.min_area={MIN_AREA}", *more]


def arguments(data: Path, *options: object, dataset: str = "shapes", experiment: str | None = None) -> list[str]:
    """The command, with one process; options with an equals sign are overrides."""
    texts = [str(option) for option in options]
    settings = [text for text in texts if "=" in text]
    rest = [text for text in texts if "=" not in text]
    chosen = [] if experiment is None else [experiment]
    return ["check", "--workers", "1", *rest, dataset, *chosen, *overrides(data, *settings)]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def set_value(data: Path, value: int) -> None:
    label = read_label(data / names("val", 1)[1])
    label[40:42, :10] = value
    write_label(data / names("val", 1)[1], label)


def add_line(data: Path, line: str, split: str = "train") -> None:
    with (data / f"{split}.txt").open("a") as stream:
        stream.write(f"{line}\n")


class Outcome:
    """What a check printed."""

    def __init__(self, text: str, code: int) -> None:
        self.text, self.code = text, code
        self.lines = text.splitlines()
        self.errors = [line.removeprefix("error: ") for line in self.lines if line.startswith("error: ")]
        self.warnings = [line.removeprefix("warning: ") for line in self.lines if line.startswith("warning: ")]

    def assert_one_problem(self, message: str, data: Path) -> None:
        """Assert that the only problem is one line, which matches ``message`` and names a file of ``data``."""
        assert len(self.errors) == 1 and re.search(message, self.errors[0])
        assert str(data) in self.errors[0]
        assert (self.code, self.lines[-1]) == (1, "1 problem")

    def rows(self) -> dict[int, tuple[int, ...]]:
        """The four numbers of each class in the tables."""
        rows = re.findall(r"^ +(\d+) +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+)", self.text, re.MULTILINE)
        assert len({cells[0] for cells in rows}) == len(rows)
        return {int(number): tuple(int(cell.replace(",", "")) for cell in cells) for number, *cells in rows}

    def queries(self) -> list[tuple[int | None, int]]:
        """Images in training (None where no experiment trains) and in tests, for each fold."""
        lines = [line for line in self.lines if line.startswith("  queries: ")]
        counts = [[re.search(rf"([\d,]+) images in {part}", line) for part in ("training", "tests")] for line in lines]
        return [(train and int(train[1]), int(val[1])) for train, val in counts if val]
