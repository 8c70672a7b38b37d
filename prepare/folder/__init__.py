"""Make a dataset of your own photographs, with or without masks.

The photographs and label PNGs stay where they are: the dataset holds links to them (copies where links fail). Masks of
other kinds become label PNGs in the dataset.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from episodes.class_names import read_class_names, write_dataset_names
from episodes.lists import write_list
from prepare.folder.dataset_config import DatasetFacts, check_config, check_name, write_config
from prepare.folder.label_pngs import check_made_masks, make_masks
from prepare.folder.mask_sources import Mask, Masks, find_masks
from prepare.folder.naming import find_images, unique_names
from prepare.folder.test_part import describe_folds, draw_test_part, possible_folds
from prepare.links import link_all
from util.arguments import number_between, whole_number
from util.device import available_cores
from util.errors import UserError
from util.files import PROJECT, read_json, write_json
from util.images import IGNORE, check_same_size, read_image
from util.logging import logger
from util.settings import differences

_LABELS = 256
_MASK_FOLDER = "SegmentationClassAug"
_SOURCE_FILE = "source.json"


class _Photograph(NamedTuple):
    """A photograph, its mask if there are masks, and the name (without suffix) it gets in the dataset."""

    image: Path
    mask: Mask | None
    name: str

    @property
    def image_entry(self) -> str:
        return f"JPEGImages/{self.name}{self.image.suffix}"

    @property
    def mask_entry(self) -> str | None:
        return None if self.mask is None else f"{_MASK_FOLDER}/{self.name}.png"


class _Contents(NamedTuple):
    """What is in the files: pixels of each photograph (n,), and of each label in its mask (n, 256)."""

    pixels: np.ndarray
    areas: np.ndarray

    @property
    def min_area(self) -> int:
        """From how many pixels an object counts: 2,048 are meant for photographs of 500 x 375, here the same share."""
        return max(1, round(2048 / (500 * 375) * float(np.median(self.pixels))))

    @property
    def labels(self) -> frozenset[int]:
        """Those that occur in the masks."""
        return frozenset(np.flatnonzero(self.areas.any(axis=0)).tolist())

    def present(self, classes: int) -> np.ndarray:
        """Which of the classes 1, 2, ... counts in which photograph: bool (n, classes)."""
        return self.areas[:, 1 : classes + 1] >= self.min_area


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m prepare folder``."""
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of photographs, searched recursively")
    parser.add_argument(
        "--masks",
        type=Path,
        help="folder of PNGs or of labelme's JSONs under the photographs' names, or one JSON in COCO's format; in an "
        "8-bit palette or grey PNG 0 is background, 255 not labelled",
    )
    parser.add_argument(
        "--colours", type=Path, metavar="FILE", help="the PNGs are colours: NAME R G B a line, or CVAT's labelmap.txt"
    )
    parser.add_argument("--class-names", type=Path, metavar="FILE", help="names of classes 1, 2, ..., one a line")
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
    parser.add_argument("--workers", type=whole_number(1), default=available_cores(), help="processes (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Check everything, then write links, masks, lists and configuration; raises ``UserError`` before it writes."""
    check_name(arguments.name)
    root = (arguments.root or PROJECT / "data" / arguments.name).absolute()
    lists = (arguments.lists or PROJECT / "lists" / arguments.name).absolute()
    _check_source_file(root / _SOURCE_FILE, _source(arguments))
    photographs, masks = _find(arguments, root)
    contents = _inspect_all(photographs)
    classes = _count_classes(contents.labels, arguments.masks, arguments.classes, masks.names)
    dataset = DatasetFacts(name=arguments.name, root=root, lists=lists, min_area=contents.min_area, classes=classes)
    check_config(dataset)
    check_made_masks(root / _MASK_FOLDER, masks.settings)
    write_json(root / _SOURCE_FILE, _source(arguments))
    _write_files(photographs, masks, root, arguments.workers)
    if masks.names is not None:
        write_dataset_names(root, masks.names)
    if arguments.masks is None:
        _write_list(lists / "train.txt", photographs)
        write_config(dataset, folds=[])
        return
    assert classes is not None  # there are masks
    present = contents.present(classes)
    in_test = draw_test_part(present, arguments.val_share, arguments.seed)
    for split, rows in (("train", ~in_test), ("val", in_test)):
        _write_list(lists / f"{split}.txt", [photographs[row] for row in np.flatnonzero(rows)])
    folds = possible_folds(dataset.name, classes, contents.labels)
    write_config(dataset, folds)
    parts = {"train": present[~in_test], "val": present[in_test]}
    describe_folds(folds, parts, masks.names, dataset.min_area)


def _find(arguments: argparse.Namespace, root: Path) -> tuple[list[_Photograph], Masks]:
    """The photographs in alphabetical order, with their masks."""
    images, masks = arguments.images, arguments.masks
    _check_source(images, root / "JPEGImages")
    if masks is not None and not masks.is_file():
        _check_source(masks, root / _MASK_FOLDER)
    if masks is None and arguments.colours is not None:
        raise UserError(f"--colours {arguments.colours}: is about masks; give their folder with --masks")
    paths = find_images(images, masks)
    if masks is None:
        names = None if arguments.class_names is None else read_class_names(arguments.class_names)
        found = Masks({}, names, None)
    else:
        options = {key: getattr(arguments, key) for key in ("colours", "class_names", "workers")}
        found = find_masks(images, masks, paths, **options)
        paths = [path for path in paths if path in found.by_image]
        if len(paths) == 1:
            raise UserError(f"{images}: one image is too few with --masks; one part trains, the other tests")
    names_there = unique_names([path.relative_to(images) for path in paths])
    pairs = zip(paths, names_there, strict=True)
    return [_Photograph(path, found.by_image.get(path), name) for path, name in pairs], found


def _source(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a dataset is made of."""
    return {"images": str(arguments.images.resolve()), "masks": arguments.masks is not None}


def _check_source_file(path: Path, source: dict[str, Any]) -> None:
    """Raise ``UserError`` when the dataset was made of other photographs, or with masks that are no longer given."""
    there = read_json(path) if path.exists() else source
    # Masks may be added to a dataset without.
    different = differences(there, source if there["masks"] else {"images": source["images"]})
    if different:
        raise UserError(
            f"{path}: the dataset was made of something else ({'; '.join(different)}); choose another --name, or "
            "delete this file and the lists if the same photographs are in another place now"
        )


def _check_source(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise UserError(f"{source}: folder not found")
    inner, outer = source.resolve(), target.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UserError(f"{source}: overlaps with {target}, which this command fills; choose another --root")


def _inspect_all(photographs: Sequence[_Photograph]) -> _Contents:
    """Read every file."""
    pixels: list[int] = []
    areas: list[np.ndarray] = []
    problems: list[str] = []
    with ThreadPoolExecutor(available_cores()) as pool:
        reports = [pool.submit(_inspect, photograph) for photograph in photographs]
        for report in tqdm(reports, desc="checking", unit="image"):
            try:
                size, labels = report.result()
            except UserError as error:
                problems.append(str(error))
                continue
            pixels.append(size)
            areas.append(labels)
    if problems:
        more = f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""
        raise UserError(problems[0] + more)
    return _Contents(np.array(pixels), np.stack(areas))


def _inspect(photograph: _Photograph) -> tuple[int, np.ndarray]:
    """Pixels of the image, and of each label in its mask: int32 (256,)."""
    height, width = read_image(photograph.image).shape[:2]
    mask = photograph.mask
    if mask is None:
        return height * width, np.zeros(_LABELS, dtype=np.int32)
    check_same_size(photograph.image, (height, width), mask.path, mask.size())
    return height * width, np.bincount(mask.read().ravel(), minlength=_LABELS).astype(np.int32)


def _count_classes(
    labels: frozenset[int], masks: Path | None, wanted: int | None, names: Sequence[str] | None
) -> int | None:
    """Object classes: as wanted or named, else the highest in the masks, None when there is none of these."""
    if names is not None and wanted not in (None, len(names)):
        raise UserError(f"--classes {wanted}: {len(names)} classes have names; leave it out")
    wanted = wanted if names is None else len(names)
    if masks is None:
        return wanted
    highest = max(labels - {IGNORE}, default=0)
    if highest == 0:
        raise UserError(f"{masks}: no object in any mask, only {sorted(labels)}; objects are 1 to 254, 255 is ignored")
    if wanted is not None and highest > wanted:
        asked = f"--classes says {wanted}" if names is None else f"--class-names has {wanted}"
        raise UserError(f"{masks}: the masks go up to class {highest}, {asked}")
    return wanted or highest


def _write_files(photographs: Sequence[_Photograph], masks: Masks, root: Path, workers: int) -> None:
    """Link the photographs, and link or make their masks."""
    links = [(item.image, root / item.image_entry) for item in photographs]
    if masks.settings is None:
        links += [(item.mask.path, root / item.mask_entry) for item in photographs if item.mask and item.mask_entry]
    link_all(links)
    if masks.settings is not None:
        made = {f"{item.name}.png": item.mask for item in photographs if item.mask is not None}
        make_masks(root / _MASK_FOLDER, made, masks.settings, workers)


def _write_list(path: Path, photographs: Sequence[_Photograph]) -> None:
    write_list(path, [(photograph.image_entry, photograph.mask_entry) for photograph in photographs])
    logger.info("%s: %d photographs", path, len(photographs))
