"""Image lists: text files with one "IMAGE LABEL" per line, both paths relative to the data root.

The format is in docs/architecture.md, "Image lists".
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from util.errors import UserError, shown
from util.files import digest_lines, read_lines, write_text
from util.logging import logger

_EXPECTED = "expected one 'IMAGE LABEL' per line"
# The longest path that systems take.
_LONGEST_NAME = 4096


@dataclass(frozen=True)
class ImageList:
    """The images of a list and, where it names them, their labels.

    ``images`` and ``labels`` are paths relative to ``root``, in list order; ``digest`` is the SHA-256 of the sorted
    image ids (file names without suffix), one per line; ``list_file`` is the file that was read.
    """

    root: Path
    images: tuple[str, ...]
    labels: tuple[str | None, ...]
    digest: str
    list_file: Path

    def __len__(self) -> int:
        return len(self.images)

    def image_path(self, index: int) -> Path:
        """The image's path."""
        return self.root / self.images[index]

    def label_path(self, index: int) -> Path:
        """The label's path. Raises ``UserError`` if the list names no label for the image."""
        return self.root / self._label_name(index)

    def label_names(self) -> list[str]:
        """``labels``, none of them None. Raises ``UserError`` if the list names no label for some image."""
        return [self._label_name(index) for index in range(len(self))]

    def file_sizes_digest(self) -> str:
        """SHA-256 of the sorted image ids with their file sizes in bytes: it changes when the files do."""
        sizes = {Path(image).stem: os.stat(os.path.join(self.root, image)).st_size for image in self.images}
        return digest_lines(f"{image_id} {size}" for image_id, size in sorted(sizes.items()))

    def _label_name(self, index: int) -> str:
        label = self.labels[index]
        if label is None:
            raise UserError(f"{self.list_file}: {self.images[index]} has no label; write 'IMAGE LABEL' on its line")
        return label


def read_list(list_file: Path, data_root: Path, *, need_labels: bool, leave_out_unlabelled: bool = False) -> ImageList:
    """Read a list and check that its files exist; labels are checked only if ``need_labels``.

    Fields are separated by tabs if the line has any, else by spaces. A line that repeats an earlier image is left out
    with a warning; labels that several images share get one. With ``leave_out_unlabelled`` so are lines without a
    label, counted in the log. Raises ``UserError`` for a missing or empty list, a line that is not "IMAGE LABEL", a
    missing file, an image with two labels, and two images with the same id (their pseudo masks would have the same
    name).
    """
    images: list[str] = []
    labels: list[str | None] = []
    unlabelled = 0
    for line in scan_list(list_file, data_root):
        if isinstance(line, UserError):
            raise line
        if line.repeats is not None:
            logger.warning("%s", line.repetition())
            continue
        left_out = leave_out_unlabelled and line.label is None
        reads_label = need_labels and not left_out
        _check_files(line.image, line.label, data_root=data_root, place=line.place, need_labels=reads_label)
        if left_out:
            unlabelled += 1
            continue
        images.append(line.image)
        labels.append(line.label)
    if unlabelled:
        if not images:
            raise UserError(f"{list_file}: none of its {unlabelled} images has a label; {_EXPECTED}, for some images")
        logger.info("%s: %d of %d images have labels", list_file, len(images), len(images) + unlabelled)
    if need_labels:
        _warn_of_shared_labels(list_file, labels)
    digest = digest_lines(sorted(Path(image).stem for image in images))
    return ImageList(root=data_root, images=tuple(images), labels=tuple(labels), digest=digest, list_file=list_file)


class ListLine(NamedTuple):
    """The image and label that a line of a list names.

    ``place`` names the list and the line for messages; ``repeats`` is the number of an earlier line with the same
    image, None if there is none.
    """

    place: str
    image: str
    label: str | None
    repeats: int | None

    def repetition(self) -> str:
        """The message that the line is left out."""
        return f"{self.place}: {self.image} is already on line {self.repeats}; left out"


def scan_list(list_file: Path, data_root: Path) -> Iterator[ListLine | UserError]:
    """The lines of a list that are neither blank nor comments, which begin with "# "; their files are not checked.

    Names are given as they are found below ``data_root``, though the list may write them with a "/" in front or with
    backslashes. Mistakes are yielded rather than raised, so that a caller can collect all of them: a line that is not
    "IMAGE LABEL", an image with two labels or with the same id as another, an empty list. Raises ``UserError`` for a
    list that is missing or not text.
    """
    text = read_lines(list_file, _EXPECTED, missing="list not found; `python -m prepare` makes the lists")
    lines = [(number, fields) for number, line in enumerate(text, start=1) if (fields := _fields(line))]
    if not lines:
        yield UserError(f"{list_file}: the list is empty; {_EXPECTED}")
    lines_of_ids: dict[str, tuple[int, ListLine]] = {}
    for number, fields in lines:
        place = f"{list_file}, line {number}"
        try:
            image, label = _parse(fields, data_root, place)
            line = ListLine(place, image, label, repeats=None)
            earlier, first = lines_of_ids.setdefault(Path(image).stem, (number, line))
            yield line if earlier == number else _repetition(line, first, earlier)
        except UserError as error:
            yield error


def write_list(list_file: Path, pairs: Iterable[tuple[str, str | None]]) -> None:
    """Write (image, label or None) pairs, relative to the data root, atomically; ``read_list`` reads them back.

    Raises ``UserError`` for a name that would be read as something else.
    """
    lines = []
    for image, label in pairs:
        names = [name for name in (image, label) if name is not None]
        line = _format(names)
        if len(line.splitlines()) != 1 or _fields(line) != names:
            raise UserError(f"{list_file}: {shown(line)} would be read as something else; rename the image")
        lines.append(f"{line}\n")
    write_text(list_file, "".join(lines))


def _fields(line: str) -> list[str]:
    """The names on a line: none if it is blank or a comment."""
    if line.split(maxsplit=1)[:1] == ["#"]:
        return []
    fields = line.split("\t") if "\t" in line else line.split()
    return [field.strip() for field in fields if field.strip()]


def _parse(fields: Sequence[str], data_root: Path, place: str) -> tuple[str, str | None]:
    if len(fields) > 2:
        raise UserError(
            f"{place}: expected 'IMAGE LABEL', found {len(fields)} fields; put a tab between names that contain "
            "spaces, and a comment on a line of its own that begins with '# '"
        )
    longest = max(map(len, fields))
    if longest > _LONGEST_NAME:
        raise UserError(f"{place}: a name of {longest:,} characters; {_EXPECTED}")
    image, *labels = (_below(data_root, name) for name in fields)
    return image, labels[0] if labels else None


def _below(data_root: Path, name: str) -> str:
    """The name without a "/" in front and backslashes, unless it is the name of a file as it is."""
    if not name.startswith("/") and "\\" not in name:
        return name
    return name if _is_file(data_root, name) else name.replace("\\", "/").lstrip("/")


def _repetition(line: ListLine, first: ListLine, number: int) -> ListLine:
    """The line of an id that is ``first`` on line ``number``; raises ``UserError`` if they contradict each other."""
    if line.image != first.image:
        raise UserError(
            f"{line.place}: {line.image} has the same file name as {first.image} on line {number}; rename one of them"
        )
    if None not in (line.label, first.label) and line.label != first.label:
        raise UserError(
            f"{line.place}: the label of {line.image} is {line.label} here and {first.label} on line {number}; "
            "remove one of the lines"
        )
    return line._replace(repeats=number)


def _check_files(image: str, label: str | None, *, data_root: Path, place: str, need_labels: bool) -> None:
    if not _is_file(data_root, image):
        raise UserError(f"{place}: image {data_root / image} not found; {_advice(image)}")
    if not need_labels:
        return
    if label is None:
        raise UserError(f"{place}: no label after {image}; write 'IMAGE LABEL'")
    if not _is_file(data_root, label):
        raise UserError(f"{place}: label {data_root / label} not found; {_advice(label)}")


def _advice(name: str) -> str:
    """What to do about a name that is not that of a file."""
    if "," in name:
        return "separate the names with a space or a tab, not a comma"
    if name.startswith("#"):
        return "begin a comment with '# '"
    return "correct the list or DATA.data_root"


def _warn_of_shared_labels(list_file: Path, labels: Sequence[str | None]) -> None:
    shared = {label: count for label, count in Counter(labels).items() if count > 1}
    if shared:
        label = next(iter(shared))
        logger.warning(
            "%s: %d images have the label of another, such as %s, which is that of %d; each image should have its own",
            *(list_file, sum(shared.values()), label, shared[label]),
        )


def _is_file(folder: Path, name: str) -> bool:
    # Lists are long, and the methods of Path take three times as long as the system call.
    return os.path.isfile(os.path.join(folder, name))


def _format(names: Sequence[str]) -> str:
    if not any(character.isspace() for name in names for character in name):
        return " ".join(names)
    # A tab marks the spaces as part of the names.
    return "\t".join([*names, ""])
