"""Make PASCAL-5i from PASCAL VOC 2012 and SBD: VOC's labels where it has one, else SBD's.

If the downloads are unpacked, images stay where they are: the dataset holds links to them (copies where links fail).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from episodes.lists import read_list, write_list
from episodes.protocols import protocol
from prepare.links import is_made
from prepare.pascal.archives import Download, DownloadLayout, Entry, open_download
from prepare.pascal.conversion import DownloadedImage, make_files
from prepare.pascal.download import PublicFile, fetch, fetch_all
from prepare.pascal.voc_lists import (
    SBD_TRAIN_NOVAL,
    VocLists,
    first_few,
    image_name,
    label_name,
    read_listed_ids,
    read_voc_lists,
)
from prepare.subset import SHARES, write_shares
from util.errors import UserError
from util.files import PROJECT
from util.locks import only_process_in
from util.logging import logger
from util.processes import available_cores

_VOC = DownloadLayout(
    title="PASCAL VOC 2012",
    expected="the folder VOC2012 or VOCtrainval_11-May-2012.tar",
    bases=(".", "VOC2012", "VOCdevkit/VOC2012"),
    folders={"ImageSets/Segmentation": ".txt", "JPEGImages": ".jpg", "SegmentationClass": ".png"},
)
_SBD = DownloadLayout(
    title="SBD",
    expected="the folder benchmark_RELEASE or benchmark.tgz",
    bases=(".", "dataset", "benchmark_RELEASE/dataset"),
    folders={".": ".txt", "cls": ".mat", "img": ".jpg"},
)

_VOC_FILE = PublicFile(
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd"
)
_SBD_FILE = PublicFile(
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    "82b4d87ceb2ed10f6038a1cba92111cb",
)
_TRAIN_NOVAL_FILE = PublicFile(
    f"http://home.bharathh.info/pubs/codes/SBD/{SBD_TRAIN_NOVAL}", "79bff800c5f0b1ec6b21080a3c066722"
)

_SUBSET_LONGER_SIDE = 375


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m prepare pascal``."""
    parser.add_argument("--voc", type=Path, help=f"PASCAL VOC 2012: {_VOC.expected}")
    parser.add_argument("--sbd", type=Path, help=f"SBD: {_SBD.expected}")
    parser.add_argument("--download", action="store_true", help="fetch both (3.4 GB) into ROOT/downloads instead")
    parser.add_argument("--root", type=Path, default=PROJECT / "data", help="where pascal/ is made (data)")
    parser.add_argument("--lists", type=Path, default=PROJECT / "lists", help="where pascal/ is made (lists)")
    parser.add_argument(
        "--subset",
        type=Path,
        metavar="FOLDER",
        help="make ROOT/NAME of what the lists in .../NAME name, shrunk to 375 pixels",
    )


def run(arguments: argparse.Namespace) -> None:
    """Make the missing files, then the lists.

    Raises ``UserError`` for downloads that are not what they should be; the files made until then are used next time.
    """
    if arguments.subset is None:
        _make_benchmark(arguments)
    else:
        _make_subset(arguments)


def _make_benchmark(arguments: argparse.Namespace) -> None:
    root, lists = arguments.root / "pascal", arguments.lists / "pascal"
    if _is_finished(root, lists):
        logger.info("%s: already complete, and the lists are exactly the benchmark's", root)
        return
    sources = _open(arguments)
    splits = sources.lists.splits()
    with only_process_in(root):
        _make_missing(root, {*splits["train"], *splits["val"]}, sources, longer_side=None)
        for split, ids in splits.items():
            write_list(lists / f"{split}.txt", [(image_name(image_id), label_name(image_id)) for image_id in ids])
        images = read_list(lists / "train.txt", root, need_labels=True)
        write_shares(images)
    _report(lists, splits, sources.lists)


def _is_finished(root: Path, lists: Path) -> bool:
    """Whether the benchmark's lists and all files they name exist, so that the downloads are not needed."""
    benchmarks = protocol("pascal").benchmarks
    try:
        parts = [read_list(lists / f"{split}.txt", root, need_labels=True) for split in benchmarks]
    except UserError:
        return False
    names = [root / name for part in parts for name in (*part.images, *part.labels) if name is not None]
    exact = all(part.digest == benchmarks[part.list_file.stem].digest for part in parts)
    shares = all((lists / f"train_{percent}.txt").is_file() for percent in SHARES)
    return exact and shares and all(map(is_made, names))


def _make_subset(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.subset.absolute()
    if folder.name == "pascal":
        raise UserError(f"--subset {folder}: {arguments.root / 'pascal'} is for the whole set; rename the folder")
    list_files = sorted(path for path in folder.glob("*.txt") if path.is_file())
    if not list_files:
        raise UserError(f"{folder}: no lists in this folder; expected files that end in .txt, like lists/voc_mini")
    root = arguments.root / folder.name
    ids = {image_id for list_file in list_files for image_id in read_listed_ids(list_file)}
    if all(_is_image_made(root, image_id) for image_id in ids):
        logger.info("%s: already complete, %s images", root, f"{len(ids):,}")
        return
    sources = _open(arguments)
    with only_process_in(root):
        _make_missing(root, ids, sources, longer_side=_SUBSET_LONGER_SIDE)


class _Sources(NamedTuple):
    """Both downloads, and the ids in their lists."""

    voc: Download
    sbd: Download
    lists: VocLists


def _open(arguments: argparse.Namespace) -> _Sources:
    voc_path, sbd_path = _fetch(arguments) if arguments.download else (arguments.voc, arguments.sbd)
    if voc_path is None or sbd_path is None:
        option, expected = ("--voc", _VOC.expected) if voc_path is None else ("--sbd", _SBD.expected)
        raise UserError(f"{option} is missing: give {expected}, or let --download fetch both")
    voc = open_download(voc_path, _VOC, is_needed=lambda name: True)
    # SBD has its own copies of the images; those that VOC has are not needed.
    sbd = open_download(sbd_path, _SBD, is_needed=lambda name: name.replace("img/", "JPEGImages/") not in voc.entries)
    for folder in (sbd_path, sbd_path.parent):
        train_noval = folder / SBD_TRAIN_NOVAL
        if train_noval.is_file():
            sbd.entries.setdefault(SBD_TRAIN_NOVAL, Entry(str(train_noval), train_noval))
    return _Sources(voc, sbd, read_voc_lists(voc, sbd))


def _fetch(arguments: argparse.Namespace) -> list[Path]:
    """Fetch VOC and SBD; returns their paths."""
    if arguments.voc or arguments.sbd:
        raise UserError("--download fetches VOC and SBD: leave --voc and --sbd out, or --download")
    folder = arguments.root / "downloads"
    with only_process_in(folder):
        paths = fetch_all([_VOC_FILE, _SBD_FILE], folder)
        try:
            fetch(_TRAIN_NOVAL_FILE, folder)
        except UserError as error:
            logger.info("%s; not needed, SBD's train.txt is filtered instead", error)
    return paths


def _make_missing(root: Path, ids: Iterable[str], sources: _Sources, *, longer_side: int | None) -> None:
    missing = sorted(image_id for image_id in ids if not _is_image_made(root, image_id))
    if missing:
        make_files(_locate(missing, sources), root, longer_side=longer_side, workers=available_cores())
    logger.info("%s: %s", root, f"{len(missing):,} images made, complete" if missing else "already complete")


def _is_image_made(root: Path, image_id: str) -> bool:
    return is_made(root / label_name(image_id)) and is_made(root / image_name(image_id))


def _locate(ids: Sequence[str], sources: _Sources) -> list[DownloadedImage]:
    """The images and their labels in the downloads; raises ``UserError`` that counts what a download lacks."""
    voc, sbd, lists = sources
    voc_labelled = lists.train | lists.val
    images: list[DownloadedImage] = []
    lacking: dict[Path, list[str]] = {}
    for image_id in ids:
        image = voc.entries.get(image_name(image_id)) or sbd.entries.get(f"img/{image_id}.jpg")
        source, name = voc, f"SegmentationClass/{image_id}.png"
        # A label that an incomplete copy of VOC lists but lacks must not come from SBD instead.
        if name not in voc.entries and image_id not in voc_labelled:
            source, name = sbd, f"cls/{image_id}.mat"
        label = source.entries.get(name)
        if image is None:
            lacking.setdefault(voc.path, []).append(image_name(image_id))
        if label is None:
            lacking.setdefault(source.path, []).append(name)
        if image and label:
            images.append(DownloadedImage(image_id, image, label))
    if lacking:
        path, names = next(iter(lacking.items()))
        raise UserError(
            f"{path}: lacks {len(names):,} of the files that the lists name ({first_few(names)}); "
            "unpack or download it again"
        )
    return images


def _report(lists: Path, splits: Mapping[str, Sequence[str]], voc_lists: VocLists) -> None:
    """Report whether the lists are exactly the benchmark's, and if not, what may be the reason."""
    benchmarks = protocol("pascal").benchmarks
    for split, ids in splits.items():
        logger.info("%s: %s", lists / f"{split}.txt", benchmarks[split].compare(ids))
    if not all(benchmarks[split].has(ids) for split, ids in splits.items()):
        for doubt in voc_lists.doubts():
            logger.warning("%s", doubt)
