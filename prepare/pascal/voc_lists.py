"""Which images PASCAL-5i trains and tests on, from the lists that come with VOC and SBD."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from prepare.pascal.archives import Download, Entry
from util.errors import UserError, shown

VOC_TRAIN, VOC_VAL = "ImageSets/Segmentation/train.txt", "ImageSets/Segmentation/val.txt"
SBD_TRAIN, SBD_TRAIN_NOVAL = "train.txt", "train_noval.txt"

_ID = re.compile(r"\d{4}_\d{6}")

# Numbers of ids in the official files, to find the file that makes a list differ from the benchmark's.
_COUNTS = {VOC_TRAIN: 1464, VOC_VAL: 1449, SBD_TRAIN: 8498, SBD_TRAIN_NOVAL: 5623}


class VocLists(NamedTuple):
    """The ids in the lists that come with VOC and SBD; either of SBD's two may be None."""

    train: frozenset[str]
    val: frozenset[str]
    sbd_train: frozenset[str] | None
    sbd_train_noval: frozenset[str] | None

    def splits(self) -> dict[str, list[str]]:
        """Sorted ids of "train" and "val": VOC's and SBD's training ids without VOC's validation ids, and these."""
        sbd = self.sbd_train if self.sbd_train_noval is None else self.sbd_train_noval
        return {"train": sorted(self.train | ((sbd or frozenset()) - self.val)), "val": sorted(self.val)}

    def doubts(self) -> Iterator[str]:
        """Possible reasons why the lists are not the benchmark's, a sentence each."""
        files: dict[str, frozenset[str] | None] = {VOC_TRAIN: self.train, VOC_VAL: self.val}
        files |= {SBD_TRAIN: self.sbd_train, SBD_TRAIN_NOVAL: self.sbd_train_noval}
        for name, ids in files.items():
            if ids is not None and len(ids) != _COUNTS[name]:
                yield f"{name} has {len(ids):,} ids, the official one {_COUNTS[name]:,}"
        if self.sbd_train is not None and self.sbd_train_noval is not None:
            differing = self.sbd_train_noval ^ (self.sbd_train - self.val)
            if differing:
                yield f"{SBD_TRAIN_NOVAL} is not {SBD_TRAIN} without {VOC_VAL}: {first_few(sorted(differing))}"


def read_voc_lists(voc: Download, sbd: Download) -> VocLists:
    """Read the lists of both downloads; raises ``UserError`` for a missing one, and for one that does not hold ids."""
    for name in (VOC_TRAIN, VOC_VAL):
        if name not in voc.entries:
            raise UserError(f"{voc.path}: no {name} in it; unpack or download it again")
    lists = {name: _read_ids(sbd.entries[name]) for name in (SBD_TRAIN, SBD_TRAIN_NOVAL) if name in sbd.entries}
    if not lists:
        raise UserError(f"{sbd.path}: neither {SBD_TRAIN} nor {SBD_TRAIN_NOVAL} in it; unpack or download it again")
    return VocLists(
        train=_read_ids(voc.entries[VOC_TRAIN]),
        val=_read_ids(voc.entries[VOC_VAL]),
        sbd_train=lists.get(SBD_TRAIN),
        sbd_train_noval=lists.get(SBD_TRAIN_NOVAL),
    )


def image_name(image_id: str) -> str:
    """Path of an image, in the dataset as in VOC."""
    return f"JPEGImages/{image_id}.jpg"


def label_name(image_id: str) -> str:
    """Path of an image's label in the dataset."""
    return f"SegmentationClassAug/{image_id}.png"


def read_listed_ids(list_file: Path) -> list[str]:
    """Ids of a list of "JPEGImages/ID.jpg SegmentationClassAug/ID.png" lines, whose files need not exist yet.

    Raises ``UserError`` for any other line.
    """
    ids = []
    for number, line in _lines(list_file.read_bytes(), str(list_file)):
        image_id = Path(line.split()[0]).stem
        if line.split() != [image_name(image_id), label_name(image_id)] or not _ID.fullmatch(image_id):
            raise UserError(
                f"{list_file}, line {number}: expected '{image_name('2007_000032')} {label_name('2007_000032')}' "
                f"or another id, found {shown(line)}"
            )
        ids.append(image_id)
    return ids


def first_few(names: Collection[str]) -> str:
    """The first three names, and the number of the others."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _read_ids(entry: Entry) -> frozenset[str]:
    ids = set()
    for number, line in _lines(entry.read(), entry.place):
        if not _ID.fullmatch(line):
            raise UserError(f"{entry.place}, line {number}: expected an image id like 2007_000032, found {shown(line)}")
        ids.add(line)
    return frozenset(ids)


def _lines(data: bytes, place: str) -> Iterator[tuple[int, str]]:
    """Number and content of each line that is not empty."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{place}: not a text file; unpack or download it again") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise UserError(f"{place}: the list is empty; unpack or download it again")
    yield from lines
