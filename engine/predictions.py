"""A prediction for one image: where each class is, how sure that is, and whether the class is there at all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np

from util.images.draw import captioned, outlined


class Area(NamedTuple):
    """How much of an image a class covers; ``probability`` is the mean of its pixels, None where there are none."""

    presence: float | None
    pixels: int
    share: float
    probability: float | None

    @property
    def confidence(self) -> float:
        """That the class is there, in 0..1: its presence, where the model can tell, else what its pixels say."""
        return (self.probability or 0.0) if self.presence is None else self.presence

    def described(self) -> str:
        """In a few words."""
        marked = f"share {100 * self.share:.1f} %" if self.pixels else "nothing marked"
        if self.presence is not None:
            return f"presence {100 * self.presence:.0f} %, {marked}"
        return f"probability {100 * self.confidence:.0f} %, {marked}" if self.pixels else marked


class ProbabilityMaps(Mapping[str, np.ndarray]):
    """The probabilities of classes by name, (H, W) float32 in 0..1, each computed when it is first looked up.

    In most images of a folder a class is not there, and nobody asks where it would be.
    """

    def __init__(self, compute: Mapping[str, Callable[[], np.ndarray]]) -> None:
        self._maps: dict[str, np.ndarray | Callable[[], np.ndarray]] = dict(compute)

    def __getitem__(self, name: str) -> np.ndarray:
        found = self._maps[name]
        if callable(found):
            found = self._maps[name] = found()
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)


class Prediction(NamedTuple):
    """What was found in an image of H x W pixels.

    ``image`` (H, W, 3) uint8 RGB. ``mask`` (H, W) uint8 holds 0 for background and the number of a class from 1 on, in
    the order of the names in ``probabilities``: (H, W) float32 in 0..1 for each, computed when asked for where they are
    ``ProbabilityMaps``. ``presence`` is the probability, as if half of all images showed the class, that it is there at
    all; None where the model cannot tell.
    """

    image: np.ndarray
    mask: np.ndarray
    probabilities: Mapping[str, np.ndarray]
    presence: dict[str, float | None]

    def marked(self, *, threshold: float, presence: float | None, min_area: int) -> Prediction:
        """The same with the mask that these words give, as ``Segmenter.predict`` explains them."""
        found = self.presence
        present = [name for name, there in found.items() if there is None or presence is None or there >= presence]
        if not present:
            return self._replace(mask=np.zeros_like(self.mask))
        mask = mask_of_classes(self.probabilities, present=present, threshold=threshold, min_area=min_area)
        return self._replace(mask=mask)

    def overlay(self) -> np.ndarray:
        """The image with what is marked outlined and, where there is room, described: (H, W, 3) uint8 RGB."""
        return captioned(outlined(self.image, self.mask), self.mask, described_classes(self.areas()))

    def areas(self) -> dict[str, Area]:
        """What the mask holds of each class."""
        return {name: self._area(number, name) for number, name in enumerate(self.probabilities, start=1)}

    def _area(self, number: int, name: str) -> Area:
        marked = self.mask == number
        pixels = int(marked.sum())
        probability = float(self.probabilities[name][marked].mean()) if pixels else None
        return Area(self.presence[name], pixels, pixels / marked.size, probability)


def described_classes(areas: Mapping[str, Area]) -> list[tuple[int, str]]:
    """Number and description of each class that is marked; where none is, of all."""
    is_empty = not any(area.pixels for area in areas.values())
    return [
        (number, f"{name}: {area.described()}")
        for number, (name, area) in enumerate(areas.items(), start=1)
        if area.pixels or is_empty
    ]


def overall_confidence(areas: Mapping[str, Area]) -> float:
    """In 0..1: of the class that is most probably there, or, where none can be told, of all pixels that are marked."""
    known = [area.presence for area in areas.values() if area.presence is not None]
    if known:
        return max(known)
    pixels = sum(area.pixels for area in areas.values())
    return sum(area.pixels * area.confidence for area in areas.values()) / max(1, pixels)


def mask_of_classes(
    probabilities: Mapping[str, np.ndarray], *, present: Collection[str], threshold: float, min_area: int
) -> np.ndarray:
    """(H, W) uint8: each pixel's most probable class among those ``present``, by its number from 1 on, else 0.

    ``probabilities`` are (H, W) float32 in 0..1, and one or more are present; only those above ``threshold`` count.
    Connected pieces of a class with fewer than ``min_area`` pixels are left out.
    """
    numbers = {number: name for number, name in enumerate(probabilities, start=1) if name in present}
    highest = np.full(probabilities[next(iter(numbers.values()))].shape, threshold, dtype=np.float32)
    mask = np.zeros(highest.shape, dtype=np.uint8)
    for number, name in numbers.items():
        mask[probabilities[name] > highest] = number
        highest = np.maximum(highest, probabilities[name])
    for number in numbers if min_area > 1 else ():
        mask[_small_pieces(mask == number, min_area)] = 0
    return mask


def _small_pieces(marked: np.ndarray, min_area: int) -> np.ndarray:
    """Where pieces of ``marked`` (H, W) bool are smaller; pixels that share a corner are connected."""
    _, pieces, statistics, _ = cv2.connectedComponentsWithStats(marked.astype(np.uint8), connectivity=8)
    small = statistics[:, cv2.CC_STAT_AREA] < min_area
    small[0] = False  # what is not marked
    where: np.ndarray = small[pieces]
    return where
