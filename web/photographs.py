"""A photograph of a session: its file, the mask that the user gave it, and what was found in it; all in one folder."""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.predictions import Prediction
from util.errors import UserError
from util.files import write_bytes
from util.images import complete_image_size, decode_image, write_image
from util.images.draw import reduced
from web.thumbnails import thumbnail

MOST_BYTES = 50 << 20  # of a file
MOST_PIXELS = 50_000_000  # of a photograph
# Longer sides of the pictures that the page shows: to paint on, and in the list.
_PICTURE, _THUMBNAIL = 1600, 480
_NO_IMAGE = np.zeros((0, 0, 3), dtype=np.uint8)


class Marking(NamedTuple):
    """What a prediction's mask depends on besides the probabilities, as ``Segmenter.predict`` explains."""

    threshold: float = 0.5
    presence: float = 0.5
    min_area: int = 0


class Listed(NamedTuple):
    """What the list says of a photograph: for each class the share of its pixels, and the probability that it is there.

    ``confidence`` (0..1), by which the list is sorted: the highest of those probabilities or, where the network cannot
    tell, of the mean probabilities of what is marked; None where nothing was predicted.
    """

    shares: list[float]
    presence: list[float | None]
    confidence: float | None


class Photograph:
    """``number`` is what files and addresses call it; ``name``, the user's, is only shown.

    ``version`` changes whenever the mask or the prediction does.
    """

    def __init__(self, number: int, name: str, data: bytes, folder: Path) -> None:
        """Keep the bytes of an image file; raises ``UserError`` for one that is too large or cannot be read."""
        height, width = complete_image_size(data, name)
        if height * width > MOST_PIXELS:
            raise UserError(f"{name}: {width} x {height} pixels, at most {MOST_PIXELS:,} here; make it smaller")
        image = decode_image(data, name)
        self.number, self.name, self.version = number, name, 0
        self.size: tuple[int, int] = image.shape[:2]  # height, width
        self.annotated_classes: list[int] | None = None  # numbers from 1 on; None without a mask of the user's
        self.made_with: Hashable = None  # the prediction
        self._file, self._picture = folder / f"{number}.image", folder / f"{number}.jpg"
        self._mask, self._probabilities = folder / f"{number}_mask.npy", folder / f"{number}_probabilities.npy"
        self._presence: list[float | None] | None = None  # of the prediction's classes
        self._last_shown: tuple[tuple[int, int, Marking], Listed] | None = None
        write_bytes(self._file, data)
        write_image(self._picture, reduced(image, _PICTURE))

    @property
    def is_predicted(self) -> bool:
        """Whether there is a prediction, which a mask of the user's may hide."""
        return self._presence is not None

    def image(self) -> np.ndarray:
        """RGB uint8 (H, W, 3)."""
        return decode_image(self._file.read_bytes(), self.name)

    def picture(self) -> bytes:
        """A JPEG to paint on, reduced where it is large."""
        return self._picture.read_bytes()

    def annotate(self, mask: np.ndarray) -> None:
        """Keep a mask of the user's, uint8 (H, W): 0 background, from 1 on the number of a class."""
        _write_array(self._mask, mask)
        self.annotated_classes = [number for number in np.unique(mask).tolist() if number]
        self.version += 1

    def forget_mask(self) -> None:
        """Leave the photograph to the network."""
        self.annotated_classes = None
        self._mask.unlink(missing_ok=True)
        self.version += 1

    def predict(self, prediction: Prediction, made_with: Hashable) -> None:
        """Keep the probabilities of a prediction, and what they were made with."""
        _write_array(self._probabilities, np.stack(list(prediction.probabilities.values())))
        self.made_with = made_with
        self.judge(prediction.presence)

    def judge(self, presence: Mapping[str, float | None]) -> None:
        """Keep for each class the probability that it is there at all."""
        self._presence = list(presence.values())
        self.version += 1

    def forget_prediction(self) -> None:
        """Its classes are others now."""
        self._presence = self.made_with = None
        self._probabilities.unlink(missing_ok=True)
        self.version += 1

    def remove(self) -> None:
        """Delete all files."""
        for path in (self._file, self._picture, self._mask, self._probabilities):
            path.unlink(missing_ok=True)

    def annotation(self) -> np.ndarray:
        """The mask of the user's, where there is one."""
        return _read_array(self._mask)

    def mask(self, marking: Marking) -> np.ndarray:
        """The user's, else the predicted one, else nothing: uint8 (H, W), the numbers of classes."""
        if self.annotated_classes is not None:
            return self.annotation()
        prediction = self._predicted(_numbers(len(self._presence or [])), marking)
        return np.zeros(self.size, dtype=np.uint8) if prediction is None else prediction.mask

    def marked(self, classes: Sequence[str], marking: Marking) -> Prediction | None:
        """Mask, probabilities and presence, without the image; a mask of the user's is certain. None without a mask."""
        if self.annotated_classes is None:
            return self._predicted(classes, marking)
        mask = self.annotation()
        certain = {name: (mask == number).astype(np.float32) for number, name in enumerate(classes, start=1)}
        return Prediction(_NO_IMAGE, mask, certain, dict.fromkeys(classes))

    def shown(self, classes: int, marking: Marking) -> Listed:
        """What the list says; ``classes`` is their number."""
        key = self.version, classes, marking
        if self._last_shown is None or self._last_shown[0] != key:
            self._last_shown = key, self._described(classes, marking)
        return self._last_shown[1]

    def thumbnail(self, marking: Marking) -> bytes:
        """A JPEG of the photograph with its mask, reduced."""
        return thumbnail(decode_image(self.picture(), self.name), self.mask(marking), _THUMBNAIL)

    def _described(self, classes: int, marking: Marking) -> Listed:
        prediction = self.marked(_numbers(classes), marking)
        areas = [] if prediction is None else list(prediction.areas().values())
        missing = classes - len(areas)  # those that were added later
        return Listed(
            shares=[area.share for area in areas] + [0.0] * missing,
            presence=[area.presence for area in areas] + [None] * missing,
            confidence=max(area.confidence for area in areas) if self.annotated_classes is None and areas else None,
        )

    def _predicted(self, classes: Sequence[str], marking: Marking) -> Prediction | None:
        if self._presence is None:
            return None
        probabilities = dict(zip(classes, _read_array(self._probabilities), strict=False))
        presence = dict(zip(classes, self._presence, strict=False))
        unmarked = np.zeros(self.size, dtype=np.uint8)
        return Prediction(_NO_IMAGE, unmarked, probabilities, presence).marked(**marking._asdict())


def _numbers(classes: int) -> list[str]:
    return [str(number) for number in range(1, classes + 1)]


def _write_array(path: Path, array: np.ndarray) -> None:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    write_bytes(path, stream.getvalue())


def _read_array(path: Path) -> np.ndarray:
    array: np.ndarray = np.load(path, allow_pickle=False)
    return array
