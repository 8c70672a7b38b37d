"""Pictures of masks: overlays and labelled sheets of them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from util.images import IGNORE, voc_colours
from util.images.captions import text_bar, text_box

# Of Okabe and Ito, which people with any colour vision tell apart; first those that no fur has.
_CLASS_COLOURS = np.array(
    [(86, 180, 233), (204, 121, 167), (240, 228, 66), (0, 158, 115), (213, 94, 0), (0, 114, 178), (230, 159, 0)],
    dtype=np.uint8,
)
_DARK = 20
_DIMMED = 0.6  # brightness of what is not marked
_LINES_ACROSS = 250  # lines of an outline that would fill the longer side
_LETTERS_ACROSS = 32
_SMALLEST_LETTERS = 11
_MOST_LINES = 6
_SHEET_LETTERS = 14
_MARGIN = 4  # of both sides of a cell


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image, darker where nothing is marked, with an outline around each class: bright inside, dark outside.

    ``image`` (H, W, 3) RGB uint8; ``mask`` (H, W) uint8: 0 background, 255 not counted, which becomes grey, else a
    class, in its colour of ``class_colours``. Returns RGB uint8 (H, W, 3). Without a class the image stays as bright.
    """
    objects = np.where(mask == IGNORE, 0, mask).astype(np.uint8)
    marked = objects > 0
    picture = np.where(marked[..., None], image, cv2.convertScaleAbs(image, alpha=_DIMMED)) if marked.any() else image
    picture = np.where((mask == IGNORE)[..., None], picture // 2 + 96, picture)
    edges = _edges(objects)
    picture[edges & ~marked] = _DARK
    picture[edges & marked] = class_colours(objects[edges & marked])
    return picture


def bordered(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture with a line around the object, white inside and dark outside, and nothing else changed.

    ``picture`` (H, W, 3) RGB uint8; ``mask`` (H, W): 1 object, 0 background, 255 not counted, as the background.
    Returns RGB uint8 (H, W, 3).
    """
    objects = (mask == 1).astype(np.uint8)
    edges, result = _edges(objects), picture.copy()
    result[edges & (objects == 0)] = _DARK
    result[edges & (objects == 1)] = 255
    return result


def class_colours(numbers: np.ndarray) -> np.ndarray:
    """The colours of classes 1, 2, ...: integers (...) to RGB uint8 (..., 3)."""
    return _CLASS_COLOURS[(numbers.astype(int) - 1) % len(_CLASS_COLOURS)]


def captioned(picture: np.ndarray, mask: np.ndarray, lines: Sequence[tuple[int, str]]) -> np.ndarray:
    """The picture with a line for each class and its colour, in the corner where the mask marks least.

    ``picture`` (H, W, 3) RGB uint8, which stays as it is; ``mask`` (H, W); ``lines`` are numbers of classes and text.
    Too many lines are counted; in a picture of few pixels there is no caption.
    """
    size = max(_SMALLEST_LETTERS, round(max(mask.shape) / _LETTERS_ACROSS))
    shown = list(lines) if len(lines) <= _MOST_LINES else list(lines[: _MOST_LINES - 1])
    text = [line for _, line in shown]
    colours = class_colours(np.array([number for number, _ in shown], dtype=int))
    if len(shown) < len(lines):
        text.append(f"and {len(lines) - len(shown)} more")
        colours = np.vstack([colours, np.zeros((1, 3), dtype=np.uint8)])
    box = text_box(text, colours, mask.shape[1], size)
    height, width = box.shape[:2]
    if not box.size or 2 * height > mask.shape[0]:
        return picture
    corners = [
        (rows, columns)
        for rows in (slice(None, height), slice(-height, None))
        for columns in (slice(None, width), slice(-width, None))
    ]
    corner = min(corners, key=lambda corner: np.count_nonzero(mask[corner]))
    with_caption = picture.copy()
    with_caption[corner] = cv2.addWeighted(picture[corner], 0.25, box, 0.75, 0)
    with_caption[corner][box > 127] = box[box > 127]
    return with_caption


def painted(image: np.ndarray, mask: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Paint regions over an image.

    ``image`` (H, W, 3) RGB uint8; ``mask`` (H, W) integer: 0 leaves the image as it is, 255 is painted white, any
    other id in its VOC colour. Returns RGB uint8 (H, W, 3).
    """
    colours = voc_colours()
    colours[255] = 255
    result, where = image.copy(), mask > 0
    result[where] = (image[where] * (1 - opacity) + colours[mask[where]] * opacity).astype(np.uint8)
    return result


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], cell: int = 160, captions: Sequence[Sequence[str]] = ()
) -> np.ndarray:
    """Arrange RGB images (each (H, W, 3) uint8, any size) in a table with a title over each column.

    Every row must have ``len(titles)`` images; the longer side of each fills ``cell`` pixels. Captions of a row, if
    there are any, stand above it and share its width evenly.
    """
    parts = [np.hstack([text_bar([title], cell, _SHEET_LETTERS) for title in titles])]
    for number, images in enumerate(rows):
        if captions:
            width = cell * len(titles) // len(captions[number])
            parts.append(np.hstack([text_bar([caption], width, _SHEET_LETTERS) for caption in captions[number]]))
        parts.append(_row(images, cell, at_top=True))
    return np.vstack(parts)


def captioned_sheet(
    pictures: Sequence[np.ndarray], captions: Sequence[Sequence[str]], columns: int, side: int
) -> np.ndarray:
    """Arrange RGB images (each (H, W, 3) uint8, any size), one or more, row by row, each above its lines of text.

    All have as many lines. Longer sides become ``side``; returns RGB uint8 of ``columns`` pictures or fewer.
    """
    cell, columns = side + _MARGIN, min(columns, len(pictures))
    rows = []
    for first in range(0, len(pictures), columns):
        of_row = slice(first, first + columns)
        bars = [text_bar(lines, cell, _SHEET_LETTERS) for lines in captions[of_row]]
        row = np.vstack([_row(pictures[of_row], cell, at_top=False), np.hstack(bars)])
        rows.append(np.pad(row, ((0, 0), (0, columns * cell - row.shape[1]), (0, 0)), constant_values=255))
    return np.vstack(rows)


def reduced(image: np.ndarray, side: int) -> np.ndarray:
    """``image``, RGB uint8 (H, W, 3), smaller where its longer side is longer than ``side``."""
    height, width = image.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))  # OpenCV's order
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _edges(objects: np.ndarray) -> np.ndarray:
    """True (H, W) on both sides of the borders between values of ``objects`` (H, W) uint8, wider in larger images."""
    reach = 2 * max(1, round(max(objects.shape) / _LINES_ACROSS)) + 1
    around = np.ones((reach, reach), dtype=np.uint8)
    edges: np.ndarray = cv2.dilate(objects, around) != cv2.erode(objects, around)
    return edges


def _row(images: Sequence[np.ndarray], cell: int, *, at_top: bool) -> np.ndarray:
    """Images side by side on white, their longer sides ``cell`` but for a margin; as high as the highest.

    Lower ones stand at its top or bottom, next to their text.
    """
    fitted = [_fitted(image, cell - _MARGIN) for image in images]
    row = np.full((max(map(len, fitted)) + _MARGIN, cell * len(fitted), 3), 255, dtype=np.uint8)
    for place, image in enumerate(fitted):
        height, width = image.shape[:2]
        top = _MARGIN // 2 if at_top else len(row) - height - _MARGIN // 2
        left = place * cell + (cell - width) // 2
        row[top : top + height, left : left + width] = image
    return row


def _fitted(image: np.ndarray, side: int) -> np.ndarray:
    """The image scaled so that its longer side is ``side``."""
    scale = side / max(image.shape[:2])
    width, height = (max(1, round(length * scale)) for length in (image.shape[1], image.shape[0]))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
