"""Make label PNGs and lists of COCO-20i from the images and annotations of COCO 2014.

The images stay where they are: the dataset holds links to them (copies where links fail). Labels are 0 background and
1 to 80 the classes. Crowds, regions that hold several objects, are labelled as their class: labels of few-shot
segmentation are commonly made of all of COCO's masks, crowds included (``--crowd ignore`` makes them 255). Where
annotations overlap, the one with fewer pixels lies on top; which one did in the published labels is not known.
The lists hold every image in which an annotation leaves a pixel.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from episodes.lists import read_list, write_list
from episodes.protocols import data_folder, protocol
from prepare.coco.annotations import AnnotatedImage, Instances, read_instances
from prepare.coco.classes import number_classes
from prepare.coco.drawing import draw_label
from prepare.links import is_made, link_all
from prepare.subset import write_shares
from prepare.workers import for_each
from util.arguments import whole_number
from util.device import available_cores
from util.errors import UserError
from util.files import PROJECT, digest_file, read_json, remove_left_overs, write_json
from util.images import image_size, write_label
from util.logging import logger
from util.settings import require_same

# Part of the manifest: to be raised when the same annotations come to mean other labels.
_VERSION = 1
_FOLDERS = ("train2014", "train2017", "val2014", "val2017")


class _Picture(NamedTuple):
    """An image of a split, with its places in the dataset."""

    split: str
    annotated: AnnotatedImage

    @property
    def image(self) -> str:
        return f"{self.split}2014/{self.annotated.name}"

    @property
    def label(self) -> str:
        return f"annotations/{self.split}2014/{Path(self.annotated.name).stem}.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m prepare coco``."""
    parser.add_argument(
        "--images", type=Path, required=True, help="folder of the images, or the one that holds train2014/ and val2014/"
    )
    parser.add_argument(
        "--annotations", type=Path, nargs="+", required=True, metavar="JSON", help="instances_{train,val}2014.json"
    )
    parser.add_argument("--root", type=Path, default=PROJECT / "data", help="where COCO2014/ is made (data)")
    parser.add_argument("--lists", type=Path, default=PROJECT / "lists", help="where coco/ is made (lists)")
    parser.add_argument(
        "--crowd",
        choices=("object", "ignore"),
        default="object",
        help="crowd regions: of their class, as COCO's masks have them, or 255, not counted (%(default)s)",
    )
    parser.add_argument("--workers", type=whole_number(1), default=available_cores(), help="processes (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Link the images, draw the labels that are not there yet, and write the lists.

    Raises ``UserError``, before anything is written, for annotations that are damaged or not COCO's, for images that
    are missing, and for labels that other annotations made; while drawing, at an image of another size than its
    annotations are for.
    """
    root: Path = arguments.root / data_folder("coco")
    files = {split: read_instances(path) for split, path in _splits(arguments.annotations).items()}
    classes = number_classes(list(files.values()))
    links = [link for split in files for link in _links(arguments.images, root, split, files[split])]
    settings = {split: _settings(instances, arguments.crowd) for split, instances in files.items()}
    for split in files:
        _check_labels(root, split, settings[split])

    link_all(links)
    draw = partial(_draw, root, classes, arguments.crowd)
    for split, instances in files.items():
        write_json(_manifest(root, split), settings[split])
        _draw_all(draw, root, [_Picture(split, image) for image in instances.images], arguments.workers)
    for split, instances in files.items():
        _write_lists(arguments.lists / "coco", root, split, instances)


def _splits(paths: Sequence[Path]) -> dict[str, Path]:
    """The files by what their names say they are for."""
    splits: dict[str, Path] = {}
    for path in paths:
        found = [split for split in protocol("coco").benchmarks if split in path.name.lower()]
        if len(found) != 1:
            raise UserError(f"--annotations {path}: expected a name with either train or val, like that of COCO's file")
        if found[0] in splits:
            raise UserError(f"--annotations {path}: {splits[found[0]]} is for {found[0]} as well; give one of them")
        splits[found[0]] = path
    return dict(sorted(splits.items()))


def _links(folder: Path, root: Path, split: str, instances: Instances) -> list[tuple[Path, Path]]:
    """Where each image of a split lies, and where it should."""
    if not folder.is_dir():
        raise UserError(f"--images {folder}: folder not found")
    own, other = ([name for name in _FOLDERS if name.startswith(split) == is_own] for is_own in (True, False))
    sources: dict[str, Path] = {}
    for place in (*(folder / name for name in own), folder, *(folder / name for name in other)):
        for name in os.listdir(place) if place.is_dir() else ():
            sources.setdefault(name, place / name)
    missing = [image.name for image in instances.images if image.name not in sources]
    if missing:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise UserError(
            f"--images {folder}: lacks {len(missing)} of {len(instances.images)} images that {instances.path} names "
            f"({names}), also in {', '.join(_FOLDERS)}; give the folder that holds them"
        )
    return [(sources[image.name], root / _Picture(split, image).image) for image in instances.images]


def _settings(instances: Instances, crowd: str) -> dict[str, Any]:
    """What the labels of a split are a function of."""
    return {"version": _VERSION, "annotations": digest_file(instances.path), "crowd": crowd}


def _manifest(root: Path, split: str) -> Path:
    return root / "annotations" / f"{split}2014.json"


def _check_labels(root: Path, split: str, settings: dict[str, Any]) -> None:
    """Raise ``UserError`` when there are labels that the settings did not make."""
    folder, manifest = root / "annotations" / f"{split}2014", _manifest(root, split)
    if not any(folder.glob("[!.]*.png")):
        return
    if not manifest.exists():
        raise UserError(f"{folder}: holds labels, and there is no {manifest}; choose another --root")
    advice = f"use the same settings, choose another --root, or delete {folder}"
    require_same(manifest, read_json(manifest), settings, advice=advice)


def _draw_all(draw: Callable[[_Picture], None], root: Path, pictures: Sequence[_Picture], workers: int) -> None:
    """Draw the labels that are not there yet."""
    missing = [picture for picture in pictures if not is_made(root / picture.label)]
    if missing:
        for_each(draw, missing, workers=workers, title=f"{pictures[0].split} labels")
    folder = (root / pictures[0].label).parent
    remove_left_overs(folder, ".png")
    drawn = any((root / picture.label).is_file() for picture in missing)
    logger.info("%s: %s", folder, "complete" if drawn else "already complete")


def _draw(root: Path, classes: Mapping[int, int], crowd: str, picture: _Picture) -> None:
    """Draw one label; an image without an annotated pixel gets none."""
    annotated = picture.annotated
    height, width = image_size(root / picture.image)
    if (height, width) != (annotated.height, annotated.width):
        raise UserError(
            f"{root / picture.image}: {width} x {height} pixels, and its annotations are for {annotated.width} x "
            f"{annotated.height}; they need the image as COCO has it"
        )
    label = draw_label(annotated, classes, ignore_crowds=crowd == "ignore")
    if label.any():
        write_label(root / picture.label, label)


def _write_lists(lists: Path, root: Path, split: str, instances: Instances) -> None:
    """Write the list of the split and for training its shares; say whether it is the benchmark's."""
    pictures = [_Picture(split, image) for image in instances.images]
    labelled = [(picture.image, picture.label) for picture in pictures if (root / picture.label).is_file()]
    if not labelled:
        raise UserError(f"{instances.path}: no annotation in it leaves a pixel in its image; expected COCO's file")
    list_file = lists / f"{split}.txt"
    write_list(list_file, labelled)
    images = read_list(list_file, root, need_labels=True)
    if split == "train":
        write_shares(images)
    benchmark = protocol("coco").benchmarks[split]
    logger.info("%s: %s", list_file, benchmark.compare([Path(image).stem for image in images.images]))
