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
from util.images import IGNORE, image_size
from util.images.image_folders import find_files
from util.images.mask_files import MaskReading, read_mask
from util.logging import logger

# What predict.py puts behind the name of an image to name its mask.
_PREDICTED = "_mask"


class Mask(Protocol):
    """The mask of one image, as an annotation tool wrote it; ``path`` is the file that it comes from."""

    @property
    def path(self) -> Path: ...

    def size(self) -> tuple[int, int]:
        """(height, width), without reading the mask; raises ``UserError``."""

    def read(self) -> np.ndarray:
        """uint8 (H, W): 0 background, then classes, 255 not labelled; raises ``UserError``."""


class LabelMask(NamedTuple):
    """A mask whose values are labels; it can be linked where nothing has to be ``understood``.

    With ``white_is_object`` 255 is class 1.
    """

    path: Path
    white_is_object: bool = False

    def size(self) -> tuple[int, int]:
        return image_size(self.path)

    def read(self) -> np.ndarray:
        ids = self.understand().ids
        return np.where(ids == IGNORE, 1, ids).astype(np.uint8) if self.white_is_object else ids

    def understand(self) -> MaskReading:
        return read_mask(self.path)


class Masks(NamedTuple):
    """The masks by image, of those that have one, the names of classes 1, 2, ..., and what else determines the masks.

    ``settings``, all but the files, are None for label PNGs, which are used as they are.
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

    In a folder, a mask has the path of its image with another suffix (``match_names``); a PNG may have ``_mask`` before
    it, as in a folder of predictions. Images may lack a mask. Raises ``UserError`` if all of them do, for masks of
    several kinds, for images whose paths differ only in their suffix, for options that do not go with the masks, and
    for what the readers of each kind refuse.
    """
    if masks.is_file():
        _refuse(masks, "COCO's JSON", {"--colours": colours, "--class-names": class_names})
        names, by_image = read_coco(masks, images, paths)
        return Masks(by_image, names, {"kind": "coco", "classes": list(names)})
    stems = _stems(images, paths)
    jsons = _by_stem(masks, ".json", stems.values())
    has_pngs = masks.resolve() != images.resolve()  # in the folder of the images, PNGs are images
    if not any(stem in jsons for stem in stems.values()):
        pngs = _pngs(masks, stems.values()) if has_pngs else {}
        return _from_pngs(images, masks, pngs, stems, colours=colours, class_names=class_names)
    # Of a folder of predictions the JSONs are read, which people correct; x_mask.png beside them is no second kind.
    pngs = _by_stem(masks, ".png", stems.values()) if has_pngs else {}
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


def _pngs(folder: Path, stems: Collection[Path]) -> dict[Path, Path]:
    """``_by_stem`` for ``x.png`` and ``x_mask.png``; beside the latter, PNGs of other names are no masks."""
    files = _by_stem(folder, ".png", stems)
    others = {stem: path for stem, path in files.items() if stem not in set(stems)}
    wanted = {stem.with_name(f"{stem.name}{_PREDICTED}"): stem for stem in stems}
    predicted = {wanted[name]: path for name, path in match_names(wanted, others).items()}
    if not predicted:
        return files
    own = {stem: path for stem, path in files.items() if stem not in others}
    for stem, path in predicted.items():
        if stem in own:
            raise UserError(f"{path}: {own[stem]} is a mask of the same image; keep one of them")
    used = set(predicted.values())
    unused = {stem: path for stem, path in others.items() if path not in used and stem.name.endswith(_PREDICTED)}
    return {**own, **predicted, **unused}


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
    masked = {path: pngs[stem] for path, stem in stems.items() if stem in pngs}
    if not masked:
        path, stem = next(iter(stems.items()))
        raise UserError(
            f"{masks}: holds no mask of an image; expected {stem}.png or {stem}{_PREDICTED}.png for {path}, or such "
            "for others, or leave out --masks to train without labels"
        )
    if colours is None:
        names = None if class_names is None else read_class_names(class_names)
        return Masks({path: LabelMask(mask) for path, mask in masked.items()}, names, None)
    _refuse(masks, "--colours, which names the classes", {"--class-names": class_names})
    table = read_colours(colours)
    settings = {
        **{"kind": "colours", "classes": list(table.names), "colours": table.settings()},
        "transparent": "background",
    }
    return Masks({path: ColourMask(mask, table) for path, mask in masked.items()}, table.names, settings)


def _warn_of_unused(masks: Path, files: Mapping[Path, Path], stems: Mapping[Path, Path]) -> None:
    unused = len(files.keys() - set(stems.values()))
    if unused:
        logger.warning("%s: %d masks have no image and are left out", masks, unused)
