"""Make a dataset of your own photographs, with or without masks.

The photographs and masks stay where they are: the dataset holds links to them (copies where links fail).
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from episodes.lists import write_list
from prepare.folder_config import DatasetFacts, check_config, write_config
from prepare.links import link_all
from util.arguments import number_between, whole_number
from util.device import available_cores
from util.errors import UserError
from util.files import PROJECT
from util.images import IMAGE_SUFFIXES, read_image, read_label
from util.logging import logger
from util.seed import python_random

_VOID = 255


class _Photograph(NamedTuple):
    """A photograph, its mask if there are masks, and the name (without suffix) it gets in the dataset."""

    image: Path
    mask: Path | None
    name: str

    @property
    def image_entry(self) -> str:
        return f"JPEGImages/{self.name}{self.image.suffix}"

    @property
    def mask_entry(self) -> str | None:
        return None if self.mask is None else f"SegmentationClassAug/{self.name}.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m prepare folder``."""
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of photographs, searched recursively")
    parser.add_argument(
        "--masks", type=Path, help="folder of 8-bit PNGs under the photographs' names: 0 background, 255 not labelled"
    )
    parser.add_argument("--name", required=True, help="what the dataset is called in the other commands")
    parser.add_argument("--root", type=Path, help="folder for the dataset (data/NAME)")
    parser.add_argument("--lists", type=Path, help="folder for the lists (lists/NAME)")
    parser.add_argument(
        "--val-share",
        type=number_between(0, 1, "0.2"),
        default=0.2,
        help="part kept for testing, with masks (%(default)s)",
    )
    parser.add_argument("--classes", type=whole_number(1, 254), help="object classes (the highest value in the masks)")
    parser.add_argument("--seed", type=whole_number(0), default=123, help="draws the test part (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Check everything, then write links, lists and configuration; raises ``UserError`` before it writes."""
    root = (arguments.root or PROJECT / "data" / arguments.name).absolute()
    lists = (arguments.lists or PROJECT / "lists" / arguments.name).absolute()
    photographs = _find(arguments.images, arguments.masks, root)
    min_area, labels = _inspect_all(photographs)
    dataset = DatasetFacts(
        name=arguments.name,
        root=root,
        lists=lists,
        min_area=min_area,
        labels=labels,
        classes=_count_classes(labels, arguments.masks, arguments.classes),
    )
    check_config(dataset)
    entries = [(photograph.image, photograph.image_entry) for photograph in photographs]
    entries += [(item.mask, item.mask_entry) for item in photographs if item.mask and item.mask_entry]
    link_all([(source, root / entry) for source, entry in entries])
    splits = _split(photographs, arguments.val_share, arguments.seed)
    for split, members in splits.items():
        write_list(lists / f"{split}.txt", [(member.image_entry, member.mask_entry) for member in members])
        logger.info("%s: %d photographs", lists / f"{split}.txt", len(members))
    write_config(dataset)


def _find(images: Path, masks: Path | None, root: Path) -> list[_Photograph]:
    """The photographs below ``images`` in alphabetical order, with their masks."""
    _check_source(images, root / "JPEGImages")
    paths = [path for path in _files(images) if path.suffix.lower() in IMAGE_SUFFIXES]
    if masks is None:
        found: list[Path | None] = [None] * len(paths)
    else:
        _check_source(masks, root / "SegmentationClassAug")
        if masks.resolve() == images.resolve():
            raise UserError(f"{masks}: holds photographs and masks; keep the masks in a folder of their own")
        paths = [path for path in paths if not path.parent.resolve().is_relative_to(masks.resolve())]
        found = _find_masks(images, masks, paths)
    if not paths:
        raise UserError(f"{images}: no images in this folder; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
    if masks is not None and len(paths) == 1:
        raise UserError(f"{images}: one image is too few with --masks; one part trains, the other tests")
    names = _unique_names([path.relative_to(images) for path in paths])
    return [_Photograph(*fields) for fields in zip(paths, found, names, strict=True)]


def _check_source(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise UserError(f"{source}: folder not found")
    inner, outer = source.resolve(), target.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UserError(f"{source}: overlaps with {target}, which this command fills; choose another --root")


def _files(folder: Path) -> list[Path]:
    """Files at any depth, without hidden ones (systems leave previews under names like ``._photo.jpg``)."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _find_masks(images: Path, masks: Path, paths: Sequence[Path]) -> list[Path | None]:
    pngs = {path.relative_to(masks).with_suffix(""): path for path in _files(masks) if path.suffix.lower() == ".png"}
    stems = [path.relative_to(images).with_suffix("") for path in paths]
    lacking = [(path, masks / f"{stem}.png") for path, stem in zip(paths, stems, strict=True) if stem not in pngs]
    if lacking:
        path, mask = lacking[0]
        raise UserError(f"{path}: no mask, expected {mask}; {len(lacking)} of {len(paths)} images have none")
    unused = len(pngs.keys() - set(stems))
    if unused:
        logger.warning("%s: %d masks have no photograph and are left out", masks, unused)
    return [pngs[stem] for stem in stems]


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for each relative path: its stem; where several share that, the folders before it; then a number.

    Labels and pseudo masks are found by this name, so case alone must not tell two apart (some disks ignore it).
    """
    stems = [_without_blanks(path.stem) for path in paths]
    counts = Counter(stem.lower() for stem in stems)
    names: list[str] = []
    taken: set[str] = set()
    for path, stem in zip(paths, stems, strict=True):
        name = stem if counts[stem.lower()] == 1 else _without_blanks("-".join(path.with_suffix("").parts))
        numbered, number = name, 1
        while numbered.lower() in taken:
            number += 1
            numbered = f"{name}_{number}"
        taken.add(numbered.lower())
        names.append(numbered)
    return names


def _without_blanks(name: str) -> str:
    return re.sub(r"\s+", "_", name)


def _inspect_all(photographs: Sequence[_Photograph]) -> tuple[int, frozenset[int]]:
    """Read every file; returns the area from which an object counts, and the labels that occur in the masks."""
    areas: list[int] = []
    labels: set[int] = set()
    problems: list[str] = []
    with ThreadPoolExecutor(available_cores()) as pool:
        reports = [pool.submit(_inspect, photograph) for photograph in photographs]
        for report in tqdm(reports, desc="checking", unit="image"):
            try:
                area, found = report.result()
            except UserError as error:
                problems.append(str(error))
                continue
            areas.append(area)
            labels |= found
    if problems:
        more = f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""
        raise UserError(problems[0] + more)
    # 2,048 pixels are meant for photographs of 500 x 375; the same share of these.
    return max(1, round(2048 / (500 * 375) * float(np.median(areas)))), frozenset(labels)


def _inspect(photograph: _Photograph) -> tuple[int, set[int]]:
    """Pixels of the image, and the labels in its mask."""
    height, width = read_image(photograph.image).shape[:2]
    if photograph.mask is None:
        return height * width, set()
    label = read_label(photograph.mask)
    if label.shape != (height, width):
        raise UserError(
            f"{photograph.mask}: the mask is {label.shape[1]} x {label.shape[0]} pixels and "
            f"{photograph.image} {width} x {height}; they must have the same size"
        )
    return height * width, set(np.unique(label).tolist())


def _count_classes(labels: frozenset[int], masks: Path | None, wanted: int | None) -> int | None:
    """Object classes: as wanted, else the highest in the masks, None when there is neither."""
    if masks is None:
        return wanted
    highest = max(labels - {_VOID}, default=0)
    if highest == 0:
        raise UserError(f"{masks}: no object in any mask, only {sorted(labels)}; objects are 1 to 254, 255 is ignored")
    if wanted is not None and highest > wanted:
        raise UserError(f"{masks}: the masks go up to class {highest}, --classes says {wanted}")
    return wanted or highest


def _split(photographs: Sequence[_Photograph], val_share: float, seed: int) -> dict[str, list[_Photograph]]:
    """Training and test part, each in alphabetical order; without masks all of them train."""
    if photographs[0].mask is None:
        return {"train": list(photographs)}
    count = min(max(1, round(val_share * len(photographs))), len(photographs) - 1)
    chosen = set(python_random(seed, "test part").sample(range(len(photographs)), count))
    return {
        "train": [photograph for row, photograph in enumerate(photographs) if row not in chosen],
        "val": [photograph for row, photograph in enumerate(photographs) if row in chosen],
    }
