"""The one reader of masks that people paint or export: docs/own_images.md has the table of what is understood.

Labels of a dataset, which are 8-bit PNGs by definition, are read by ``util.images.read_label``.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from util.errors import UserError
from util.images import IGNORE
from util.images.image_files import DECODER_ERRORS, read_file
from util.images.mask_pixels import MaskPixels, decode_colours, decode_mask, pixels_of, split_channels
from util.images.soft_edges import TwoValues, find_two_values, is_picture, level_counts

_LABEL_ADVICE = "save labels as 8-bit PNG without smoothing, or an object in white on black"
# What is opaque in more colours than this is a picture that was cut out.
_MOST_COLOURS = 64
_GREY_SPREAD = 8  # between the channels of a grey JPEG
_NEARLY_WHITE = 240  # of a soft or JPEG's white
_LISTED = 5
_MOST_OF_THE_IMAGE = 0.95
_DEEP_VOID = 65535  # 255 in files of 16 bits


class MaskReading(NamedTuple):
    """What a mask means.

    ``ids`` (H, W) uint8: 0 background, 255 not counted (the object where it is the only value), others as in the file.
    ``understood`` says what was done to get there; it is empty if the pixels are the ids.
    """

    ids: np.ndarray
    understood: str


class MaskColours(NamedTuple):
    """A mask in colours: ``colours`` (H, W, 3) uint8 RGB, ``visible`` (H, W) bool, False where transparent."""

    colours: np.ndarray
    visible: np.ndarray


def read_mask(path: Path) -> MaskReading:
    """The label map in a file, whose values mean the same in every file. Raises ``UserError``, also for colours."""
    return _understand(decode_mask(read_file(path, "mask"), path), path, one_object=False)


def read_object(path: Path, value: int | None = None) -> MaskReading:
    """A mask of one object: ``ids`` (H, W) uint8 0, 1 for the object, 255 not counted; ``understood`` is never empty.

    ``value`` is the object's where a file has several. Raises ``UserError`` for files without or with several objects.
    """
    return _choose(marks_of(read_file(path, "mask"), path), path, value)


def marks_of(data: bytes, name: Path | str) -> MaskReading:
    """What the bytes of a painted mask mark, one object or several. Raises ``UserError``, which calls it ``name``."""
    return _understand(decode_mask(data, name), name, one_object=True)


def object_of(mask: np.ndarray | Image.Image, name: str, value: int | None = None) -> MaskReading:
    """``read_object`` for an array or an image of Pillow, called ``name`` in errors.

    Arrays are (H, W) of bool, of whole numbers from 0 or of shares from 0 to 1; or (H, W, 2 to 4) uint8: grey and
    alpha, RGB, RGBA.
    """
    pixels = _decoded(mask, name) if isinstance(mask, Image.Image) else _checked(mask, name)
    return _choose(_understand(pixels, name, one_object=True), name, value)


def read_mask_colours(path: Path) -> MaskColours:
    """The colours of a file. Raises ``UserError`` for one of more than 8 bits per channel."""
    pixels = decode_colours(path)
    visible = np.full(pixels.values.shape[:2], True) if pixels.alpha is None else _visible(pixels.alpha, path)
    return MaskColours(pixels.values, visible)


def colour_codes(colours: np.ndarray) -> np.ndarray:
    """A number for each colour: (..., 3) red, green, blue to (...) int32."""
    return colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)


def colour_name(code: int) -> str:
    """Red, green and blue of a colour's number."""
    return " ".join(str(code >> shift & 255) for shift in (16, 8, 0))


def doubt_about(mask: np.ndarray) -> str | None:
    """What is odd about an object's mask (H, W) of 0, 1 and 255, as the end of a warning; None if nothing is."""
    share = float((mask == 1).sum()) / max(1, int((mask != IGNORE).sum()))
    if share > _MOST_OF_THE_IMAGE:
        return f"the object covers {100 * share:.1f} % of the image; is the mask inverted?"
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if share > 0.5 and (border == 1).mean() > _MOST_OF_THE_IMAGE:
        return f"the object covers {100 * share:.1f} % of the image and all of its border; is the mask inverted?"
    return None


def _decoded(mask: Image.Image, name: str) -> MaskPixels:
    try:
        return pixels_of(mask)
    except DECODER_ERRORS as error:  # Pillow decodes a file when its pixels are needed
        raise UserError(f"{name}: not a readable mask ({error}); replace it") from None


def _checked(mask: np.ndarray, name: str) -> MaskPixels:
    is_plane = mask.ndim == 2 and mask.dtype.kind in "buif"
    if not mask.size or not (is_plane or (mask.ndim == 3 and mask.shape[2] <= 4 and mask.dtype == np.uint8)):
        raise UserError(
            f"{name}: an array of {mask.dtype} {mask.shape}; expected (H, W) of numbers or (H, W, 1 to 4) of uint8"
        )
    return split_channels(mask)


def _understand(pixels: MaskPixels, name: Path | str, *, one_object: bool) -> MaskReading:
    notes = list(pixels.notes)
    values = pixels.values
    if values.ndim == 3 and _is_grey(values, pixels.is_lossy):
        values = values[..., 0]
        notes.append("grey in three channels")
    if pixels.alpha is None:
        ids = _ids_of_colours(values, name, notes, one_object) if values.ndim == 3 else None
    else:
        ids = _ids_of_visible(values, pixels.alpha, name, notes, one_object)
    if ids is None:
        ids = _ids_of_levels(_levels(values, name, notes), name, notes, is_lossy=pixels.is_lossy)
        if pixels.alpha is not None:
            ids = np.where(_visible(pixels.alpha, name), ids, 0).astype(np.uint8)
    return MaskReading(ids, "; ".join(notes))


def _is_grey(colours: np.ndarray, is_lossy: bool) -> bool:
    spread = colours.max(axis=2) - colours.min(axis=2)
    return bool(spread.max(initial=0) <= (_GREY_SPREAD if is_lossy else 0))


def _ids_of_visible(
    values: np.ndarray, alpha: np.ndarray, name: Path | str, notes: list[str], one_object: bool
) -> np.ndarray | None:
    """The object, if that is what is opaque; None if the opaque part has values of its own."""
    visible = _visible(alpha, name)
    notes.append("transparent is background")
    solid = values[visible & (alpha == alpha.max())]
    found = np.unique(colour_codes(solid) if values.ndim == 3 else solid)
    if len(found) == 1 and values.ndim == 3 and not one_object:
        raise UserError(f"{name}: in colour ({_listing(found)}); `prepare folder --colours` says what colours mean")
    if len(found) == 1 or len(found) > _MOST_COLOURS:
        notes.append("what is opaque is the object")
        return visible.astype(np.uint8)
    if values.ndim == 3:
        return _ids_of_colours(np.where(visible[..., None], values, 0), name, notes, one_object)
    return None


def _visible(alpha: np.ndarray, name: Path | str) -> np.ndarray:
    """Where a mask is opaque, bool (H, W); partly transparent pixels are either, as at the edges of a mask."""
    levels = _present(alpha)
    if len(levels) == 1:
        return np.full(alpha.shape, bool(levels[0]))
    two = TwoValues(*levels.tolist()) if len(levels) == 2 else find_two_values(alpha)
    if two is None:
        raise UserError(f"{name}: neither opaque nor transparent but {len(levels)} levels of both; {_LABEL_ADVICE}")
    return alpha >= two.middle


def _ids_of_colours(colours: np.ndarray, name: Path | str, notes: list[str], one_object: bool) -> np.ndarray:
    """One colour on black is the object, where one object is expected."""
    codes = colour_codes(colours)
    found = np.unique(codes)
    found = found[found > 0]
    listing = _listing(found)
    if not one_object:
        raise UserError(
            f"{name}: a label must be an 8-bit palette or grey PNG, this one is in colour ({listing}); "
            "`python -m prepare folder --colours` converts colours to such labels"
        )
    if len(found) > 1:
        raise UserError(f"{name}: {len(found)} colours ({listing}); paint the object in one colour on black")
    notes.append(f"the object is what has the colour {listing}")
    return (codes > 0).astype(np.uint8)


def _levels(values: np.ndarray, name: Path | str, notes: list[str]) -> np.ndarray:
    """Numbers of any type as uint8 (H, W)."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        notes.append("one bit per pixel")
        return values.astype(np.uint8)
    lowest, highest = values.min(initial=0), values.max(initial=0)
    if not (lowest >= 0 and np.isfinite(highest)):
        raise UserError(f"{name}: has values below 0 or none at all (from {lowest} to {highest}); {_LABEL_ADVICE}")
    notes.append(f"values of type {values.dtype}")
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        if highest <= 1:
            notes.append("shares from 0 to 1, cut at 0.5")
            return (values >= 0.5).astype(np.uint8)
        return np.rint(values * (IGNORE / highest)).astype(np.uint8)
    ids = np.where(values == _DEEP_VOID, IGNORE, values)
    if ids.max(initial=0) > IGNORE:
        ids = np.rint(values * (IGNORE / highest))
        if len(np.unique(values)) > 2 and find_two_values(ids.astype(np.uint8)) is None:
            raise UserError(f"{name}: has values up to {highest}; expected 0 to {IGNORE}; {_LABEL_ADVICE}")
    return ids.astype(np.uint8)


def _ids_of_levels(levels: np.ndarray, name: Path | str, notes: list[str], *, is_lossy: bool) -> np.ndarray:
    two = find_two_values(levels, is_lossy=is_lossy)
    if two is not None:
        notes.append(f"soft edges between {two.low} and {two.high}, cut at {two.middle}")
        high = IGNORE if two.high >= _NEARLY_WHITE else two.high
        return np.where(levels >= two.middle, high, 0).astype(np.uint8)
    found = _present(levels)
    if (is_lossy and len(found) > 2) or is_picture(levels):
        raise UserError(f"{name}: {len(found)} grey levels, not labels; {_LABEL_ADVICE}")
    return levels


def _choose(reading: MaskReading, name: Path | str, value: int | None) -> MaskReading:
    """The one object in a label map."""
    ids = reading.ids
    values = [number for number in _present(ids).tolist() if number]
    if not values:
        raise UserError(f"{name}: marks no object; its pixels must be other than 0")
    classes = [number for number in values if number != IGNORE] or [IGNORE]
    if value is None and len(classes) > 1:
        raise UserError(f"{name}: several values, {_numbers(values)}; choose the object's with --class VALUE")
    if value is not None and value not in values:
        raise UserError(f"{name}: no pixel has the value {value} of --class, only {_numbers(values)}")
    chosen = classes[0] if value is None else value
    mask = (ids == chosen).astype(np.uint8)
    void = IGNORE in values and chosen != IGNORE
    if void:
        mask[ids == IGNORE] = IGNORE
    what = f"value {chosen} is the object, {int((mask == 1).sum()):,} pixels" + (", 255 is not counted" if void else "")
    return MaskReading(mask, f"{what} ({reading.understood})" if reading.understood else what)


def _present(levels: np.ndarray) -> np.ndarray:
    return np.flatnonzero(level_counts(levels))


def _numbers(values: list[int]) -> str:
    return ", ".join(map(str, values[:_LISTED])) + (", ..." if len(values) > _LISTED else "")


def _listing(codes: np.ndarray) -> str:
    return ", ".join(map(colour_name, codes[:_LISTED])) + (", ..." if len(codes) > _LISTED else "")
