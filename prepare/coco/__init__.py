"""Make label PNGs and lists of COCO-20i from the images and annotations of COCO 2014.

The images stay where they are: the dataset holds links to them (copies where links fail). In a label, 0 is background
and 1 to 80 are the classes. Crowds, regions that hold several objects, are labelled with their class: labels for
few-shot segmentation are commonly made from all of COCO's masks, crowds included (``--crowd ignore`` makes them 255).
Where annotations overlap, the one with fewer pixels lies on top; the order in the published labels is unknown. The
lists hold every image in which an annotation leaves a pixel.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize

from episodes.lists import read_list, write_list
from episodes.protocols import data_folder, protocol
from prepare.coco.annotations import AnnotatedImage, Instances, read_instances
from prepare.coco.classes import number_classes
from prepare.coco.drawing import draw_label
from prepare.links import is_made, link_all
from prepare.subset import write_shares
from prepare.workers import for_each
from util.arguments import whole_number
from util.errors import UserError
from util.files import PROJECT, digest_file, read_json_object, remove_left_overs, write_json
from util.images import image_size, write_label
from util.locks import only_process_in
from util.logging import logger
from util.processes import available_cores
from util.settings import require_same

# Part of the manifest; increase it when the same annotations come to give different labels.
_VERSION = 1
_SPLITS = tuple(protocol("coco").benchmarks)
_FOLDERS = ("train2014", "train2017", "val2014", "val2017")


class _SplitImage(NamedTuple):
    """An annotated image of a split, with its paths in the dataset."""

    split: str
    annotated: AnnotatedImage

    @property
    def image_path(self) -> str:
        return f"{self.split}2014/{self.annotated.name}"

    @property
    def label_path(self) -> str:
        return f"annotations/{self.split}2014/{Path(self.annotated.name).stem}.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m prepare coco``."""
    parser.add_argument(
        "--images", type=Path, required=True, help="folder of the images, or of train2014/ and val2014/"
    )
    parser.add_argument(
        "--annotations", type=Path, nargs="+", default=[], metavar="JSON", help="instances_{train,val}2014.json"
    )
    for split in _SPLITS:
        parser.add_argument(f"--{split}", type=Path, metavar="JSON", help=f"the same for {split}, under any name")
    parser.add_argument("--root", type=Path, default=PROJECT / "data", help="where COCO2014/ is made (data)")
    parser.add_argument("--lists", type=Path, default=PROJECT / "lists", help="where coco/ is made (lists)")
    parser.add_argument(
        "--crowd",
        choices=("object", "ignore"),
        default="object",
        help="label of crowd regions: their class, as in COCO's masks, or 255, which is ignored (%(default)s)",
    )
    parser.add_argument("--workers", type=whole_number(1), default=available_cores(), help="processes (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Link the images, draw the missing labels, and write the lists.

    Raises ``UserError`` before anything is written for annotations that are damaged or not COCO's, for missing images,
    and for labels made from other annotations; while drawing, for an image whose size is not that of its annotations.
    """
    root: Path = arguments.root / data_folder("coco")
    files = {split: read_instances(path) for split, path in _splits(arguments).items()}
    classes = number_classes(list(files.values()))
    links = [link for split in files for link in _links(arguments.images, root, split, files[split])]
    settings = {split: _settings(instances, arguments.crowd) for split, instances in files.items()}

    with only_process_in(root):
        for split in files:
            _check_labels(root, split, settings[split])
        link_all(links)
        draw = partial(_draw, root, classes, arguments.crowd)
        for split, instances in files.items():
            write_json(_manifest(root, split), settings[split])
            _draw_all(draw, root, [_SplitImage(split, image) for image in instances.images], arguments.workers)
        for split, instances in files.items():
            _write_lists(arguments.lists / "coco", root, split, instances)


def _splits(arguments: argparse.Namespace) -> dict[str, Path]:
    """The annotation files by split: those of --train and --val, and those whose names contain either word."""
    splits = {split: getattr(arguments, split) for split in _SPLITS if getattr(arguments, split) is not None}
    if not splits and not arguments.annotations:
        raise UserError("no annotations: give --annotations, or --train and --val, COCO's instances_*.json")
    for path in arguments.annotations:
        matches = [split for split in _SPLITS if split in path.name.lower()]
        if len(matches) != 1:
            raise UserError(
                f"--annotations {path}: expected a name with either train or val, like that of COCO's file; or give "
                "it with --train or --val"
            )
        (split,) = matches
        if split in splits:
            raise UserError(f"--annotations {path}: {splits[split]} is for {split} as well; give one of them")
        splits[split] = path
    return dict(sorted(splits.items()))


def _links(folder: Path, root: Path, split: str, instances: Instances) -> list[tuple[Path, Path]]:
    """Where each image of a split is, and where the dataset links to it."""
    if not folder.is_dir():
        raise UserError(f"--images {folder}: folder not found")
    own = [name for name in _FOLDERS if name.startswith(split)]
    others = [name for name in _FOLDERS if name not in own]
    sources: dict[str, Path] = {}
    for place in (*(folder / name for name in own), folder, *(folder / name for name in others)):
        for entry in os.scandir(place) if place.is_dir() else ():
            if entry.is_file():
                sources.setdefault(normalize("NFC", entry.name), place / entry.name)
    missing = [image.name for image in instances.images if image.name not in sources]
    if missing:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise UserError(
            f"--images {folder}: lacks {len(missing)} of {len(instances.images)} images that {instances.path} names "
            f"({names}), also below it in {', '.join(_FOLDERS)}; give the folder that holds them"
        )
    return [(sources[image.name], root / _SplitImage(split, image).image_path) for image in instances.images]


def _settings(instances: Instances, crowd: str) -> dict[str, Any]:
    """Everything that determines the labels of a split."""
    return {"version": _VERSION, "annotations": digest_file(instances.path), "crowd": crowd}


def _manifest(root: Path, split: str) -> Path:
    return root / "annotations" / f"{split}2014.json"


def _check_labels(root: Path, split: str, settings: dict[str, Any]) -> None:
    """Raise ``UserError`` if there are labels that were not made with these settings."""
    folder, manifest = root / "annotations" / f"{split}2014", _manifest(root, split)
    if not any(folder.glob("[!.]*.png")):
        return
    if not manifest.exists():
        raise UserError(f"{folder}: holds labels, but there is no {manifest}; choose another --root")
    advice = f"use the same settings, choose another --root, or delete {folder}"
    require_same(manifest, read_json_object(manifest), settings, advice=advice)


def _draw_all(draw: Callable[[_SplitImage], None], root: Path, images: Sequence[_SplitImage], workers: int) -> None:
    """Draw the missing labels."""
    missing = [image for image in images if not is_made(root / image.label_path)]
    if missing:
        for_each(draw, missing, workers=workers, title=f"{images[0].split} labels")
    folder = (root / images[0].label_path).parent
    remove_left_overs(folder, ".png")
    drawn = any((root / image.label_path).is_file() for image in missing)
    logger.info("%s: %s", folder, "complete" if drawn else "already complete")


def _draw(root: Path, classes: Mapping[int, int], crowd: str, image: _SplitImage) -> None:
    """Draw one label; an image without an annotated pixel gets none."""
    annotated = image.annotated
    height, width = image_size(root / image.image_path)
    if (height, width) != (annotated.height, annotated.width):
        raise UserError(
            f"{root / image.image_path}: {width}x{height} pixels, but its annotations are for {annotated.width}x"
            f"{annotated.height}; use the image as COCO published it"
        )
    label = draw_label(annotated, classes, ignore_crowds=crowd == "ignore")
    if label.any():
        write_label(root / image.label_path, label)


def _write_lists(lists: Path, root: Path, split: str, instances: Instances) -> None:
    """Write the list of the split, and its shares for training; report whether it is the benchmark's."""
    candidates = [_SplitImage(split, annotated) for annotated in instances.images]
    labelled = [(image.image_path, image.label_path) for image in candidates if (root / image.label_path).is_file()]
    if not labelled:
        raise UserError(f"{instances.path}: none of its annotations leaves a pixel in its image; expected COCO's file")
    list_file = lists / f"{split}.txt"
    write_list(list_file, labelled)
    images = read_list(list_file, root, need_labels=True)
    if split == "train":
        write_shares(images)
    benchmark = protocol("coco").benchmarks[split]
    logger.info("%s: %s", list_file, benchmark.compare([Path(image).stem for image in images.images]))
