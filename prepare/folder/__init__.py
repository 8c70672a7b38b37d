"""Make a dataset of your own images, with or without masks.

The images and label PNGs stay where they are: the dataset holds links to them (copies where links fail). Masks of other
kinds become label PNGs in the dataset.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from episodes.class_names import read_class_names, write_dataset_names
from episodes.lists import write_list
from prepare.folder.contents import Contents, count_classes, inspect_files
from prepare.folder.dataset_config import DatasetFacts, check_config, check_name, write_config
from prepare.folder.label_pngs import check_made_masks, make_masks
from prepare.folder.mask_sources import LabelMask, Mask, Masks, find_masks
from prepare.folder.naming import find_own_images, unique_names
from prepare.folder.test_part import describe_folds, draw_test_part, possible_folds
from prepare.links import link_all
from util.arguments import number_between, whole_number
from util.errors import UserError
from util.files import PROJECT, read_json_object, write_json
from util.images import MAX_CLASSES
from util.locks import only_process_in
from util.logging import logger
from util.processes import available_cores
from util.settings import differences

_MASK_FOLDER = "SegmentationClassAug"
_SOURCE_FILE = "source.json"


class _OwnImage(NamedTuple):
    """The file of an image, its mask if it has one, and the name (without suffix) that it gets in the dataset."""

    path: Path
    mask: Mask | None
    name: str

    @property
    def image_entry(self) -> str:
        return f"JPEGImages/{self.name}{self.path.suffix}"

    @property
    def mask_entry(self) -> str | None:
        return None if self.mask is None else f"{_MASK_FOLDER}/{self.name}.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m prepare folder``."""
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of images, searched recursively")
    parser.add_argument(
        "--masks",
        type=Path,
        help="masks of all images or of some: a folder of PNGs (x.png or x_mask.png for x.jpg) or of labelme's JSONs, "
        "or one JSON in COCO's format; in a palette or grey PNG, 0 is background and 255 not labelled",
    )
    parser.add_argument(
        "--colours", type=Path, metavar="FILE", help="the PNGs are colours: NAME R G B per line, or CVAT's labelmap.txt"
    )
    parser.add_argument("--class-names", type=Path, metavar="FILE", help="names of classes 1, 2, ..., one per line")
    parser.add_argument("--name", required=True, help="name of the dataset in the other commands")
    parser.add_argument("--root", type=Path, help="folder for the dataset (data/NAME)")
    parser.add_argument("--lists", type=Path, help="folder for the lists (lists/NAME)")
    parser.add_argument(
        "--val-share",
        type=number_between(0, 1, "0.2"),
        default=0.2,
        help="share of the images kept for testing, with masks (%(default)s)",
    )
    parser.add_argument(
        "--classes", type=whole_number(1, MAX_CLASSES), help="object classes (the highest value in the masks)"
    )
    parser.add_argument("--seed", type=whole_number(0), default=123, help="draws the test part (%(default)s)")
    parser.add_argument("--workers", type=whole_number(1), default=available_cores(), help="processes (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Check everything, then write links, masks, lists and configuration; raises ``UserError`` before it writes."""
    check_name(arguments.name)
    root = (arguments.root or PROJECT / "data" / arguments.name).absolute()
    lists = (arguments.lists or PROJECT / "lists" / arguments.name).absolute()
    _check_source_file(root / _SOURCE_FILE, _source(arguments))
    images, masks = _find(arguments, root)
    contents = inspect_files([(image.path, image.mask) for image in images])
    if contents.understood:
        logger.info("%s", "\n".join(contents.understood))
    if masks.settings is None:
        images, masks, contents = _understood(images, masks, contents)
    classes = count_classes(contents.labels, arguments.masks, arguments.classes, masks.names)
    dataset = DatasetFacts(name=arguments.name, root=root, lists=lists, min_area=contents.min_area, classes=classes)
    check_config(dataset)
    with only_process_in(root):
        _write(arguments, dataset, contents, images, masks)


def _write(
    arguments: argparse.Namespace, dataset: DatasetFacts, contents: Contents, images: list[_OwnImage], masks: Masks
) -> None:
    """Write the files and the lists; without masks one list."""
    root, lists, classes = dataset.root, dataset.lists, dataset.classes
    check_made_masks(root / _MASK_FOLDER, masks.settings)
    write_json(root / _SOURCE_FILE, _source(arguments))
    _write_files(images, masks, root, arguments.workers)
    if masks.names is not None:
        write_dataset_names(root, masks.names)
    if arguments.masks is None:
        _write_list(lists / "train.txt", images)
        write_config(dataset, folds=[])
        return

    # Divide the images into a training and a test part
    assert classes is not None  # there are masks
    present, labelled = contents.present(classes), np.array([image.mask is not None for image in images])
    in_test = draw_test_part(present, labelled, arguments.val_share, arguments.seed)
    parts = {"train": ~in_test, "val": in_test} if in_test.any() else {"train": ~in_test}
    if "val" not in parts:
        (lists / "val.txt").unlink(missing_ok=True)  # of an earlier command, whose images are now trained on
    for split, rows in parts.items():
        _write_list(lists / f"{split}.txt", [images[row] for row in np.flatnonzero(rows)])
    folds = possible_folds(dataset.name, classes, contents.labels) if "val" in parts else []
    write_config(dataset, folds)
    describe_folds(folds, {split: present[rows] for split, rows in parts.items()}, masks.names, dataset.min_area)


def _understood(images: list[_OwnImage], masks: Masks, contents: Contents) -> tuple[list[_OwnImage], Masks, Contents]:
    """What label PNGs mean together; labels are made of them where their values are not already the labels."""
    if contents.white_is_object:
        logger.info("255 is the object, class 1, in %d masks", contents.white.sum())
        images = [
            image if image.mask is None else image._replace(mask=LabelMask(image.mask.path, white_is_object=True))
            for image in images
        ]
        return images, masks._replace(settings={"kind": "masks", "255": "class 1"}), contents.with_white_as_object()
    if contents.white.any():
        logger.warning(
            "%d masks hold 255 and no class; 255 is not counted: give objects the number of their class",
            contents.white.sum(),
        )
    return images, masks._replace(settings={"kind": "masks"}) if contents.understood else masks, contents


def _find(arguments: argparse.Namespace, root: Path) -> tuple[list[_OwnImage], Masks]:
    """The images in alphabetical order, with their masks."""
    images, masks = arguments.images, arguments.masks
    _check_folder(images, root / "JPEGImages")
    if masks is not None and not masks.is_file():
        _check_folder(masks, root / _MASK_FOLDER)
    if masks is None and arguments.colours is not None:
        raise UserError(f"--colours {arguments.colours}: needs masks; give their folder with --masks")
    paths = find_own_images(images, masks)
    if masks is None:
        names = None if arguments.class_names is None else read_class_names(arguments.class_names)
        sources = Masks({}, names, None)
    else:
        options = {key: getattr(arguments, key) for key in ("colours", "class_names", "workers")}
        sources = find_masks(images, masks, paths, **options)
        logger.info("%s: masks for %d of %d images", masks, len(sources.by_image), len(paths))
        if len(paths) == 1:
            raise UserError(
                f"{images}: one image is too few with --masks; one part trains, the other tests; without --masks it "
                "trains without labels, and predict.py takes the mask as --support"
            )
    dataset_names = unique_names([path.relative_to(images) for path in paths])
    pairs = zip(paths, dataset_names, strict=True)
    return [_OwnImage(path, sources.by_image.get(path), name) for path, name in pairs], sources


def _source(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a dataset is made from, as ``source.json`` keeps it."""
    return {"images": str(arguments.images.resolve()), "masks": arguments.masks is not None}


def _check_source_file(path: Path, source: dict[str, Any]) -> None:
    """Raise ``UserError`` if the dataset was made from other images, or with masks that are no longer given."""
    previous = read_json_object(path) if path.exists() else source
    # Masks may be added to a dataset without masks.
    different = differences(previous, source if previous.get("masks", True) else {"images": source["images"]})
    if different:
        raise UserError(
            f"{path}: the dataset was made from something else ({'; '.join(different)}); choose another --name, or "
            "delete this file and the lists if the same images are in another place now"
        )


def _check_folder(source: Path, target: Path) -> None:
    """Raise ``UserError`` if the user's folder ``source`` is missing, or overlaps with ``target`` in the dataset."""
    if not source.is_dir():
        raise UserError(f"{source}: folder not found")
    inner, outer = source.resolve(), target.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UserError(f"{source}: overlaps with {target}, which this command fills; choose another --root")


def _write_files(images: Sequence[_OwnImage], masks: Masks, root: Path, workers: int) -> None:
    """Link the images, and link or make their masks."""
    links = [(image.path, root / image.image_entry) for image in images]
    if masks.settings is None:
        links += [(image.mask.path, root / image.mask_entry) for image in images if image.mask and image.mask_entry]
    link_all(links)
    if masks.settings is not None:
        sources = {f"{image.name}.png": image.mask for image in images if image.mask is not None}
        make_masks(root / _MASK_FOLDER, sources, masks.settings, workers)


def _write_list(path: Path, images: Sequence[_OwnImage]) -> None:
    write_list(path, [(image.image_entry, image.mask_entry) for image in images])
    logger.info("%s: %d images", path, len(images))
