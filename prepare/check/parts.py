"""The two lists of a dataset, with everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from episodes.lists import ListLine, scan_list
from episodes.protocols import protocol
from prepare.check.problems import Problem
from prepare.pascal.voc_lists import first_few
from util.config.schema import DataSection
from util.errors import UserError


class Part(NamedTuple):
    """One of the two lists, as far as it can be read; ``split`` is "train" or "val".

    ``lines`` are the valid lines without repetitions; ``reads_labels`` is whether any experiment reads their labels.
    """

    split: str
    list_file: Path
    lines: tuple[ListLine, ...]
    reads_labels: bool

    def ids(self) -> list[str]:
        """File names of the images without suffix."""
        return [Path(line.image).stem for line in self.lines]


def read_parts(
    data: DataSection, *, supervised: bool, labels_required: bool
) -> tuple[tuple[Part, Part], list[Problem]]:
    """The training and the test list, and their problems.

    ``supervised``: whether training may read labels; ``labels_required``: whether a training list without labels is a
    mistake. Only a training list in which every image has a label needs a test list.
    """
    train_lines, problems = _read(data.train_list, data.data_root)
    train_labelled = _is_labelled(train_lines)
    train = Part("train", data.train_list, train_lines, supervised and (train_labelled or labels_required))
    problems += _lacking_labels(train)
    unlabelled = bool(train_lines) and not train_labelled
    if not data.val_list.exists() and any(line.label is None for line in train_lines):
        return (train, Part("val", data.val_list, (), False)), problems
    val_lines, val_problems = _read(data.val_list, data.data_root)
    val = Part("val", data.val_list, val_lines, _is_labelled(val_lines) or not unlabelled)
    return (train, val), [*problems, *val_problems, *_lacking_labels(val), *_shared_images(train, val)]


def describe_part(part: Part, dataset: str) -> str:
    """A phrase about what the list holds, and whether it is exactly the benchmark's if the dataset is one."""
    if not part.lines:
        return "no images" if part.list_file.exists() else "not found"
    benchmark = protocol(dataset).benchmarks.get(part.split)
    size = benchmark.compare(part.ids()) if benchmark else f"{len(part.lines):,} images"
    if not _is_labelled(part.lines):
        return f"{size}; no labels"
    if not part.reads_labels:
        return f"{size}; labels not read"
    labelled = sum(line.label is not None for line in part.lines)
    return size if labelled == len(part.lines) else f"{size}; {labelled:,} have labels"


def _read(list_file: Path, data_root: Path) -> tuple[tuple[ListLine, ...], list[Problem]]:
    lines: list[ListLine] = []
    problems: list[Problem] = []
    try:
        for line in scan_list(list_file, data_root):
            if isinstance(line, UserError):
                problems.append(Problem("mistakes in lists", str(line)))
            elif line.repeats is not None:
                problems.append(Problem("repeated lines", line.repetition(), is_warning=True))
            else:
                lines.append(line)
    except UserError as error:
        problems.append(Problem("unreadable lists", str(error)))
    return tuple(lines), problems


def _is_labelled(lines: Iterable[ListLine]) -> bool:
    return any(line.label is not None for line in lines)


def _lacking_labels(part: Part) -> Iterator[Problem]:
    """One problem for a list that has no label at all, and one for each line of a test list without a label.

    Images of a training list may have none: they take part in unsupervised and in joint training.
    """
    if not part.reads_labels or not part.lines:
        return
    if not _is_labelled(part.lines):
        yield Problem(
            "lists without labels", f"{part.list_file}: no line names a label; write one 'IMAGE LABEL' per line"
        )
        return
    for line in part.lines if part.split == "val" else ():
        if line.label is None:
            yield Problem("lines without a label", f"{line.place}: no label after {line.image}; write 'IMAGE LABEL'")


def _shared_images(train: Part, val: Part) -> Iterator[Problem]:
    shared = sorted({line.image for line in train.lines} & {line.image for line in val.lines})
    if shared:
        yield Problem(
            "shared images",
            f"{train.list_file} and {val.list_file}: {len(shared):,} images are in both "
            f"({first_few(shared)}); take them off one list: a test on training images proves little",
            is_warning=True,
        )
