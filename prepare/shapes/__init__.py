"""Draw the procedural shapes dataset: twenty classes of textured silhouettes in the layout of PASCAL.

It needs no download, and serves for demonstrations, for tests and for trying out changes.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import NamedTuple

from episodes.lists import write_list
from prepare.shapes.scene import CLASSES, draw_scene
from prepare.workers import for_each
from util.arguments import whole_number
from util.errors import UserError
from util.files import PROJECT, read_json_object, write_json
from util.images import write_image, write_label
from util.locks import only_process_in
from util.logging import logger
from util.processes import available_cores
from util.seed import numpy_random
from util.settings import require_same

# Part of the manifest; increase it when the same settings come to give different images.
_VERSION = 1
_MANIFEST = "shapes.json"


class _Scene(NamedTuple):
    """Everything except the size that determines an image."""

    seed: int
    split: str
    number: int

    @property
    def image_path(self) -> str:
        return f"JPEGImages/shapes_{self.split}_{self.number:06d}.jpg"

    @property
    def label_path(self) -> str:
        return f"SegmentationClassAug/shapes_{self.split}_{self.number:06d}.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m prepare shapes``."""
    parser.add_argument("--root", type=Path, default=PROJECT / "data" / "shapes", help="folder for images and labels")
    parser.add_argument("--lists", type=Path, default=PROJECT / "lists" / "shapes", help="folder for the lists")
    parser.add_argument("--train", type=whole_number(1), default=600, help="training images (%(default)s)")
    parser.add_argument("--val", type=whole_number(1), default=300, help="test images (%(default)s)")
    parser.add_argument("--size", type=whole_number(64, 1024), default=160, help="side in pixels (%(default)s)")
    parser.add_argument("--seed", type=whole_number(0), default=123, help="draws the images (%(default)s)")
    parser.add_argument("--workers", type=whole_number(1), default=available_cores(), help="processes (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Draw the missing images and write both lists.

    Raises ``UserError`` if the folder holds images of other settings, or images that this command did not draw.
    """
    with only_process_in(arguments.root):
        _make(arguments.root, arguments)


def _make(root: Path, arguments: argparse.Namespace) -> None:
    """What ``run`` does, in a folder that no other process writes to."""
    _claim(root, {name: getattr(arguments, name) for name in ("train", "val", "size", "seed")})
    splits = {
        split: [_Scene(arguments.seed, split, number) for number in range(count)]
        for split, count in (("train", arguments.train), ("val", arguments.val))
    }
    missing = [scene for scenes in splits.values() for scene in scenes if not _is_drawn(root, scene)]
    if missing:
        draw = partial(_draw, root, arguments.size)
        for_each(draw, missing, workers=arguments.workers, title="shapes")
    for split, scenes in splits.items():
        write_list(arguments.lists / f"{split}.txt", [(scene.image_path, scene.label_path) for scene in scenes])
    done = "complete" if missing else "already complete"
    logger.info("%s: %d training and %d test images, %s", root, arguments.train, arguments.val, done)
    logger.info("lists in %s", arguments.lists)


def _claim(root: Path, settings: dict[str, int]) -> None:
    """Write the manifest, before any image so that an interrupted run can be continued; or compare the existing one."""
    settings = {"version": _VERSION, **settings}
    manifest = root / _MANIFEST
    if not manifest.exists():
        images = root / "JPEGImages"
        if images.is_dir() and any(images.iterdir()):
            raise UserError(f"{images}: holds images, but there is no {manifest}; choose an empty --root")
        write_json(manifest, settings)
        return
    advice = f"use the same settings, choose another --root, or delete {root}"
    require_same(manifest, read_json_object(manifest), settings, advice=advice)


def _is_drawn(root: Path, scene: _Scene) -> bool:
    """Whether both files exist; each is written atomically, the label last."""
    return (root / scene.label_path).is_file() and (root / scene.image_path).is_file()


def _draw(root: Path, size: int, scene: _Scene) -> None:
    """Draw one image. The classes take turns as its first object, so that each has an equal share of the images."""
    rng = numpy_random("shapes", _VERSION, *scene)
    image, label = draw_scene(rng, class_id=scene.number % len(CLASSES) + 1, size=size)
    write_image(root / scene.image_path, image)
    write_label(root / scene.label_path, label)
