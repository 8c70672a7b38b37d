"""Image lists: text files with one "IMAGE LABEL" per line, both paths relative to the data root.

The format is in docs/architecture.md, "Image lists".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from util.errors import UserError
from util.files import digest_lines, read_lines, write_text
from util.logging import logger


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


def read_list(list_file: Path, data_root: Path, *, need_labels: bool) -> ImageList:
    """Read a list and check that its files exist; labels are checked only if ``need_labels``.

    Fields are separated by tabs if the line has any, else by spaces. A line that repeats an earlier image is left out
    with a warning. Raises ``UserError`` for a missing or empty list, a line that is not "IMAGE LABEL", a missing file,
    and two images with the same id (their pseudo masks would have the same name).
    """
    images: list[str] = []
    labels: list[str | None] = []
    for line in scan_list(list_file):
        if isinstance(line, UserError):
            raise line
        if line.repeats is not None:
            logger.warning("%s", line.repetition())
            continue
        _check_files(line.image, line.label, data_root=data_root, place=line.place, need_labels=need_labels)
        images.append(line.image)
        labels.append(line.label)
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


def scan_list(list_file: Path) -> Iterator[ListLine | UserError]:
    """The lines of a list that are not blank; the files they name are not checked.

    Mistakes are yielded rather than raised, so that a caller can collect all of them: a line that is not "IMAGE LABEL",
    an image with the same id as another, an empty list. Raises ``UserError`` for a list that is missing or not text.
    """
    expected = "expected one 'IMAGE LABEL' per line"
    text = read_lines(list_file, expected, missing="list not found; `python -m prepare` makes the lists")
    lines = [(number, line) for number, line in enumerate(text, start=1) if line.strip()]
    if not lines:
        yield UserError(f"{list_file}: the list is empty; {expected}")
    lines_of_ids: dict[str, tuple[int, str]] = {}
    for number, line in lines:
        place = f"{list_file}, line {number}"
        try:
            image, label = _parse(line, place)
        except UserError as error:
            yield error
            continue
        first, earlier = lines_of_ids.setdefault(Path(image).stem, (number, image))
        if earlier != image:
            yield UserError(f"{place}: {image} has the same file name as {earlier} on line {first}; rename one of them")
        else:
            yield ListLine(place, image, label, repeats=None if first == number else first)


def write_list(list_file: Path, pairs: Iterable[tuple[str, str | None]]) -> None:
    """Write (image, label or None) pairs, relative to the data root, atomically; ``read_list`` reads them back."""
    write_text(list_file, "".join(_format(image, label) + "\n" for image, label in pairs))


def _parse(line: str, place: str) -> tuple[str, str | None]:
    if "\t" in line:
        fields = [field.strip() for field in line.split("\t") if field.strip()]
    else:
        fields = line.split()
    if len(fields) > 2:
        raise UserError(
            f"{place}: expected 'IMAGE LABEL', found {len(fields)} fields; put a tab between names that contain spaces"
        )
    return fields[0], fields[1] if len(fields) == 2 else None


def _check_files(image: str, label: str | None, *, data_root: Path, place: str, need_labels: bool) -> None:
    advice = "correct the list or DATA.data_root"
    if not _is_file(data_root, image):
        raise UserError(f"{place}: image {data_root / image} not found; {advice}")
    if not need_labels:
        return
    if label is None:
        raise UserError(f"{place}: no label after {image}; write 'IMAGE LABEL'")
    if not _is_file(data_root, label):
        raise UserError(f"{place}: label {data_root / label} not found; {advice}")


def _is_file(folder: Path, name: str) -> bool:
    # Lists are long, and the methods of Path take three times as long as the system call.
    return os.path.isfile(os.path.join(folder, name))


def _format(image: str, label: str | None) -> str:
    names = [name for name in (image, label) if name is not None]
    if not any(character.isspace() for name in names for character in name):
        return " ".join(names)
    # A tab marks the spaces as part of the names.
    return "\t".join([*names, ""])
