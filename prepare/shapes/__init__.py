"""Draw the procedural shapes dataset: twenty classes of textured silhouettes in the layout of PASCAL.

It needs no download: it is for demonstrations, for tests and for trying changes out.
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
from util.device import available_cores
from util.errors import UserError
from util.files import PROJECT, read_json, write_json
from util.images import write_image, write_label
from util.logging import logger
from util.seed import numpy_random
from util.settings import require_same

# Part of the manifest: to be raised when the same settings come to mean other pictures.
_VERSION = 1
_MANIFEST = "shapes.json"


class _Scene(NamedTuple):
    """What a picture is a function of, beside its size."""

    seed: int
    split: str
    number: int

    @property
    def image(self) -> str:
        return f"JPEGImages/shapes_{self.split}_{self.number:06d}.jpg"

    @property
    def label(self) -> str:
        return f"SegmentationClassAug/shapes_{self.split}_{self.number:06d}.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m prepare shapes``."""
    parser.add_argument("--root", type=Path, default=PROJECT / "data" / "shapes", help="folder for the pictures")
    parser.add_argument("--lists", type=Path, default=PROJECT / "lists" / "shapes", help="folder for the lists")
    parser.add_argument("--train", type=whole_number(1), default=600, help="training pictures (%(default)s)")
    parser.add_argument("--val", type=whole_number(1), default=300, help="test pictures (%(default)s)")
    parser.add_argument("--size", type=whole_number(64, 1024), default=160, help="side in pixels (%(default)s)")
    parser.add_argument("--seed", type=whole_number(0), default=123, help="another seed, other pictures (%(default)s)")
    parser.add_argument("--workers", type=whole_number(1), default=available_cores(), help="processes (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Draw the pictures that are not there yet and write both lists.

    Raises ``UserError`` when the folder holds pictures of other settings, or that are not ours.
    """
    root: Path = arguments.root
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
        write_list(arguments.lists / f"{split}.txt", [(scene.image, scene.label) for scene in scenes])
    done = "complete" if missing else "already complete"
    logger.info("%s: %d training and %d test pictures, %s", root, arguments.train, arguments.val, done)
    logger.info("lists in %s", arguments.lists)


def _claim(root: Path, settings: dict[str, int]) -> None:
    """Write the manifest first, so that an interrupted run knows what it was about."""
    settings = {"version": _VERSION, **settings}
    manifest = root / _MANIFEST
    if not manifest.exists():
        images = root / "JPEGImages"
        if images.is_dir() and any(images.iterdir()):
            raise UserError(f"{images}: holds images, and there is no {manifest}; choose an empty --root")
        write_json(manifest, settings)
        return
    advice = f"use the same settings, choose another --root, or delete {root}"
    require_same(manifest, read_json(manifest), settings, advice=advice)


def _is_drawn(root: Path, scene: _Scene) -> bool:
    """Whether both files are there; they are written whole, the label last."""
    return (root / scene.label).is_file() and (root / scene.image).is_file()


def _draw(root: Path, size: int, scene: _Scene) -> None:
    """Draw one picture. Classes take turns as its first object, so that each has its share of the pictures."""
    rng = numpy_random("shapes", _VERSION, *scene)
    image, label = draw_scene(rng, class_id=scene.number % len(CLASSES) + 1, size=size)
    write_image(root / scene.image, image)
    write_label(root / scene.label, label)
