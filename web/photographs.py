"""A photograph of a session: its file, the mask that the user gave it, and what was found in it; all in one folder."""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.predictions import Prediction
from util.errors import UserError
from util.files import write_bytes
from util.images import complete_image_size, decode_image, write_image
from web.thumbnails import reduced, thumbnail

MOST_BYTES = 50 << 20  # of a file
MOST_PIXELS = 50_000_000  # of a photograph
# Longer sides of the pictures that the page shows: to paint on, and in the list.
_PICTURE, _THUMBNAIL = 1600, 480


class Marking(NamedTuple):
    """What a prediction's mask depends on besides the probabilities, as ``Segmenter.predict`` explains."""

    threshold: float = 0.5
    presence: float = 0.5
    min_area: int = 0


class Shown(NamedTuple):
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
        self._last_shown: tuple[int, Marking, Shown] | None = None
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
        prediction = self._prediction(marking)
        return np.zeros(self.size, dtype=np.uint8) if prediction is None else prediction.mask

    def shown(self, classes: int, marking: Marking) -> Shown:
        """What the list says; ``classes`` is their number."""
        if self._last_shown is None or self._last_shown[:2] != (self.version, marking):
            self._last_shown = self.version, marking, self._described(marking)
        shown = self._last_shown[2]
        missing = classes - len(shown.shares)
        return shown._replace(shares=shown.shares + [0.0] * missing, presence=shown.presence + [None] * missing)

    def thumbnail(self, marking: Marking) -> bytes:
        """A JPEG of the photograph with its mask, reduced."""
        return thumbnail(decode_image(self.picture(), self.name), self.mask(marking), _THUMBNAIL)

    def _described(self, marking: Marking) -> Shown:
        prediction = None if self.annotated_classes is not None else self._prediction(marking)
        if prediction is None:
            mask = self.mask(marking)
            counts = np.bincount(mask.ravel(), minlength=max(self.annotated_classes or [0]) + 1)[1:]
            return Shown([int(count) / mask.size for count in counts], [None] * len(counts), None)
        areas = list(prediction.areas().values())
        sure = [area.probability or 0.0 if area.presence is None else area.presence for area in areas]
        return Shown([area.share for area in areas], [area.presence for area in areas], max(sure))

    def _prediction(self, marking: Marking) -> Prediction | None:
        """By the numbers of the classes; its image is empty, for nothing here needs it."""
        if self._presence is None:
            return None
        names = [str(number) for number in range(1, len(self._presence) + 1)]
        probabilities = dict(zip(names, _read_array(self._probabilities), strict=True))
        presence = dict(zip(names, self._presence, strict=True))
        nothing = np.zeros((0, 0, 3), dtype=np.uint8)
        prediction = Prediction(nothing, nothing[..., 0], probabilities, presence)
        return prediction.marked(**marking._asdict())


def _write_array(path: Path, array: np.ndarray) -> None:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    write_bytes(path, stream.getvalue())


def _read_array(path: Path) -> np.ndarray:
    array: np.ndarray = np.load(path, allow_pickle=False)
    return array
