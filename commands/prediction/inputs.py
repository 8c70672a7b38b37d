"""What ``predict.py`` and ``export.py`` are given: a model, annotated images, queries; read before torch is there."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from engine.supports import Support, read_support
from engine.untrained import Untrained
from prepare.folder.annotated_classes import read_annotated_classes
from util.errors import UserError
from util.files import digest_file, digest_lines
from util.images.image_folders import find_files, list_images

# Of the names of masks that lie beside their images.
_MASK = "_mask"
_JSON = ".json"

# For each class its annotated images: image and mask. With JSONs in the masks' place, these have the classes.
SupportFiles: TypeAlias = "dict[str, list[tuple[Path, Path]]]"


def check_model(method: str | None, backbone: Sequence[str]) -> None:
    """Raise ``UserError`` for a ``method`` without training, None for a checkpoint, that has no such ``backbone``."""
    if method is not None:
        Untrained.read(method, backbone)
    elif backbone:
        raise UserError("--backbone: a checkpoint has its own; it belongs to --method")


def read_supports(files: SupportFiles, value: int | None = None) -> dict[str, list[Support]]:
    """The supports of each class; ``value`` is the object's in masks of several. Raises ``UserError``.

    Where JSONs of labelme or COCO take the place of masks, their labels are the classes, in alphabetical order.
    """
    pairs = [pair for each in files.values() for pair in each]
    masks = [mask for _, mask in pairs if mask.suffix.lower() != _JSON]
    if len(masks) == len(pairs):
        return {name: [read_support(image, mask, value) for image, mask in each] for name, each in files.items()}
    if masks:
        raise UserError(f"{masks[0]}: a mask, but other supports have a JSON; annotate all of them in one way")
    if value is not None:
        raise UserError(f"--class {value}: not with JSONs ({pairs[0][1]}), whose labels are the classes; leave it out")
    return {
        name: [read_support(each.image, each.mask, name=f"{name} in {each.source}") for each in annotated]
        for name, annotated in read_annotated_classes(pairs).items()
    }


def find_supports(folder: Path) -> SupportFiles:
    """The annotated images in ``folder``: ``x_mask.png`` is the mask of ``x.jpg`` beside it, in any formats.

    Without a mask it is ``x.json``, else the one JSON there that has no image's name, as COCO's. Images in the folder
    itself are of one class, which has its name; else those in each subfolder are of a class, in the order of their
    names. Raises ``UserError``, also for an image without mask.
    """
    if not folder.is_dir():
        raise UserError(f"--supports {folder}: not a folder; give one with images and x_mask.png beside x.jpg")
    classes: dict[str, list[Path]] = defaultdict(list)
    for path in list_images(folder):
        above = path.relative_to(folder).parts[:-1]
        classes[above[0] if above else folder.resolve().name].append(path)
    if not classes:
        raise UserError(f"--supports {folder}: no images found in it")
    if len({len(path.relative_to(folder).parts) == 1 for paths in classes.values() for path in paths}) > 1:
        raise UserError(f"--supports {folder}: has images both in it and in its folders; give each class a folder")
    return {name: _pairs(paths) for name, paths in sorted(classes.items())}


def _pairs(paths: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Images and masks of one class, put together."""
    images: dict[str, list[Path]] = defaultdict(list)
    masks: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        stem = str(path.with_suffix(""))
        (masks if stem.endswith(_MASK) else images)[stem.removesuffix(_MASK)].append(path)
    for stem in images:
        masks[stem] = masks[stem] or _json_of(Path(stem), images)
    for stem in {**images, **masks}:
        name = os.path.basename(stem)
        if not masks[stem]:
            raise UserError(f"{images[stem][0]}: has no mask beside it; expected {name}{_MASK}.png, or {name}{_JSON}")
        if len(images[stem]) != 1 or len(masks[stem]) != 1:
            raise UserError(
                f"{masks[stem][0]}: {len(images[stem])} images and {len(masks[stem])} masks of that name; "
                f"expected one {name} and one {name}{_MASK}"
            )
    return [(images[stem][0], masks[stem][0]) for stem in images]


def _json_of(image: Path, stems: Collection[str]) -> list[Path]:
    """The JSON beside an image, given without suffix, that has its name, else the only one that has no image's."""
    jsons = {str(path.with_suffix("")): path for path in find_files(image.parent, {_JSON}, recursive=False)}
    if str(image) in jsons:
        return [jsons[str(image)]]
    shared = [path for stem, path in jsons.items() if stem not in stems]
    return shared if len(shared) == 1 else []


def find_queries(paths: Sequence[Path], leave_out: Collection[Path] = ()) -> dict[Path, Path]:
    """The images among ``paths`` and in the folders among them, each once; in folders, ``leave_out`` is not.

    For each the end of its path that tells it apart: the name, of one in a folder the path from there on. Raises
    ``UserError`` for a folder without images, and for a path where nothing is.
    """
    queries: dict[str, tuple[Path, Path]] = {}
    for path in paths:
        if not os.path.lexists(path):
            raise UserError(f"--query {path}: image not found")
        files = {path: Path(path.name)}
        if path.is_dir():
            files = {file: file.relative_to(path) for file in list_images(path) if file.resolve() not in leave_out}
            if not files:
                raise UserError(f"--query {path}: no images found in it")
        for file, kept in files.items():
            queries.setdefault(os.path.abspath(file), (file, kept))
    return dict(queries.values())


def settings_digest(files: SupportFiles, **settings: object) -> str:
    """A digest of what predictions depend on apart from their query: the contents of the supports, and settings."""
    supports = [(name, [[digest_file(path) for path in pair] for pair in pairs]) for name, pairs in files.items()]
    return digest_lines([repr(supports), repr(settings)])


def files_digest(paths: Iterable[Path]) -> str:
    """A digest of which files there are, and of their sizes."""
    return digest_lines(f"{os.path.abspath(path)} {path.stat().st_size}" for path in paths)
