"""The masks of a user's images in any of their forms: PNGs of labels or colours, labelme's JSONs, COCO's JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from episodes.class_names import read_class_names
from prepare.folder.coco_json import read_coco
from prepare.folder.colour_masks import ColourMask, read_colours
from prepare.folder.labelme import read_labelme
from prepare.folder.matching import match_names
from util.errors import UserError
from util.images import image_size
from util.images.image_folders import find_files
from util.images.mask_files import MaskReading, read_mask
from util.logging import logger


class Mask(Protocol):
    """The mask of one image, as an annotation tool wrote it; ``path`` is the file that it comes from."""

    @property
    def path(self) -> Path: ...

    def size(self) -> tuple[int, int]:
        """(height, width), without reading the mask; raises ``UserError``."""

    def read(self) -> np.ndarray:
        """uint8 (H, W): 0 background, then classes, 255 not labelled; raises ``UserError``."""


class LabelMask(NamedTuple):
    """A mask whose values are labels; it can be linked where nothing has to be ``understood``."""

    path: Path

    def size(self) -> tuple[int, int]:
        return image_size(self.path)

    def read(self) -> np.ndarray:
        return self.understand().ids

    def understand(self) -> MaskReading:
        return read_mask(self.path)


class Masks(NamedTuple):
    """The masks by image, the names of classes 1, 2, ..., and everything except the files that determines the masks.

    ``settings`` is None for label PNGs, which are used as they are.
    """

    by_image: Mapping[Path, Mask]
    names: tuple[str, ...] | None
    settings: Mapping[str, Any] | None


def find_masks(
    images: Path,
    masks: Path,
    paths: Sequence[Path],
    *,
    colours: Path | None,
    class_names: Path | None,
    workers: int,
) -> Masks:
    """The masks of the images ``paths`` below ``images``; ``masks`` is a JSON in COCO's format or a folder.

    In a folder, a mask has the path of its image with another suffix (``match_names``). Every image needs a PNG; images
    without annotations in JSONs are left out, with one line in the log. Raises ``UserError`` if masks are missing or of
    several kinds, for images whose paths differ only in their suffix, for options that do not go with the masks, and
    for what the readers of each kind refuse.
    """
    if masks.is_file():
        _refuse(masks, "COCO's JSON", {"--colours": colours, "--class-names": class_names})
        names, by_image = read_coco(masks, images, paths)
        _warn_of_unannotated(masks, paths, by_image)
        return Masks(by_image, names, {"kind": "coco", "classes": list(names)})
    stems = _stems(images, paths)
    jsons = _by_stem(masks, ".json", stems.values())
    # In the folder of the images, PNGs are images.
    pngs = {} if masks.resolve() == images.resolve() else _by_stem(masks, ".png", stems.values())
    if not any(stem in jsons for stem in stems.values()):
        return _from_pngs(images, masks, pngs, stems, colours=colours, class_names=class_names)
    _refuse(masks, "labelme's JSONs", {"--colours": colours})
    return _from_labelme(masks, jsons, pngs, stems, class_names=class_names, workers=workers)


def _stems(images: Path, paths: Sequence[Path]) -> dict[Path, Path]:
    """The path of each image below ``images`` without its suffix, by which its mask is found."""
    owners: dict[Path, Path] = {}
    for path in paths:
        first = owners.setdefault(path.relative_to(images).with_suffix(""), path)
        if first != path:
            raise UserError(f"{path}: would have the same mask as {first}; rename one of them, or take it out")
    return {path: stem for stem, path in owners.items()}


def _refuse(masks: Path, kind: str, options: Mapping[str, Path | None]) -> None:
    """Raise ``UserError`` for an option that does not go with masks of this kind."""
    for option, value in options.items():
        if value is not None:
            raise UserError(f"{option} {value}: not with {kind} ({masks}); leave it out")


def _by_stem(folder: Path, suffix: str, stems: Collection[Path]) -> dict[Path, Path]:
    """The files by the one of ``stems`` that they are for, and others by their own."""
    files = {path.relative_to(folder).with_suffix(""): path for path in find_files(folder, {suffix})}
    matches = match_names(stems, files)
    used = set(matches.values())
    return {**matches, **{stem: path for stem, path in files.items() if path not in used}}


def _from_labelme(
    masks: Path,
    jsons: Mapping[Path, Path],
    pngs: Mapping[Path, Path],
    stems: Mapping[Path, Path],
    *,
    class_names: Path | None,
    workers: int,
) -> Masks:
    annotated = {path: jsons[stem] for path, stem in stems.items() if stem in jsons}
    conflicting = sorted(pngs[stem] for stem in stems.values() if stem in pngs)
    if conflicting:
        kinds = f"{conflicting[0]} and {min(annotated.values())}"
        raise UserError(f"{masks}: holds masks of two kinds, {kinds}; keep one kind in a folder")
    _warn_of_unused(masks, jsons, stems)
    _warn_of_unannotated(masks, list(stems), annotated)
    names, drawn = read_labelme(list(annotated.values()), class_names, workers)
    by_image = dict(zip(annotated, drawn, strict=True))
    return Masks(by_image, names, {"kind": "labelme", "classes": list(names)})


def _from_pngs(
    images: Path,
    masks: Path,
    pngs: Mapping[Path, Path],
    stems: Mapping[Path, Path],
    *,
    colours: Path | None,
    class_names: Path | None,
) -> Masks:
    if masks.resolve() == images.resolve():
        raise UserError(
            f"{masks}: holds images and masks; keep the masks in a folder of their own (labelme's JSONs may stay)"
        )
    _warn_of_unused(masks, pngs, stems)
    lacking = [path for path, stem in stems.items() if stem not in pngs]
    if lacking:
        mask = masks / f"{stems[lacking[0]]}.png"
        raise UserError(
            f"{lacking[0]}: no mask, expected {mask}; {len(lacking)} of {len(stems)} images have none; without --masks "
            "all of them train without labels, and predict.py takes the masks as --support"
        )
    if colours is None:
        names = None if class_names is None else read_class_names(class_names)
        return Masks({path: LabelMask(pngs[stem]) for path, stem in stems.items()}, names, None)
    _refuse(masks, "--colours, which names the classes", {"--class-names": class_names})
    table = read_colours(colours)
    settings = {
        **{"kind": "colours", "classes": list(table.names), "colours": table.settings()},
        "transparent": "background",
    }
    return Masks({path: ColourMask(pngs[stem], table) for path, stem in stems.items()}, table.names, settings)


def _warn_of_unused(masks: Path, files: Mapping[Path, Path], stems: Mapping[Path, Path]) -> None:
    unused = len(files.keys() - set(stems.values()))
    if unused:
        logger.warning("%s: %d masks have no image and are left out", masks, unused)


def _warn_of_unannotated(masks: Path, paths: Sequence[Path], annotated: Collection[Path]) -> None:
    lacking = len(paths) - len(annotated)
    if lacking:
        logger.warning("%s: %d of %d images are not annotated and left out", masks, lacking, len(paths))
