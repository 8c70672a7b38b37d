"""A folder's surest images as further supports of a class with few (docs/method.md, section 12.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from episodes.transforms import Transform, View
from util.seed import python_random

# So often the surest images are taken, each time by what was learnt from those of the time before.
_ROUNDS = 3
# So many supports a class has with those that are taken from the folder. More gained nothing.
_ENOUGH = 5
# In a folder of fewer images a class is in too few of them, and the surest are often wrong.
_FEWEST_IMAGES = 100
# An object of fewer pixels in the network's input may fall between the positions of its features, 8 x 8 pixels each.
FEW_PIXELS = 64


def rounds(images: int, shots: int) -> int:
    """How often further supports are taken from a folder of so many images, where a class has so many ``shots``."""
    return _ROUNDS if images >= _FEWEST_IMAGES and shots < _ENOUGH else 0


def further_supports(
    probabilities: Mapping[int, float | None], shots: int, support: Callable[[int], View | None]
) -> dict[int, View]:
    """By their number, the images of a folder that become further supports of a class with so many ``shots``.

    They are the surest of those with more than one half in ``probabilities``, that the class is in an image (None: not
    known). ``support(number)`` is asked for the views of a few; those that are None are left out.
    """
    likely = {number: each for number, each in probabilities.items() if each is not None and each > 0.5}
    taken: dict[int, View] = {}
    for number in sorted(likely, key=lambda number: -likely[number]):
        if shots + len(taken) >= _ENOUGH:
            break
        view = support(number)
        if view is not None:
            taken[number] = view
    return taken


def as_support(image: np.ndarray, prediction: np.ndarray, transform: Transform) -> View | None:
    """The view of an image RGB uint8 (H, W, 3) as a support that shows what is predicted in it, 0 or 1 (H, W).

    None where so little is marked that the features would miss it.
    """
    view = transform(image, prediction.astype(np.uint8), rng=python_random("no augmentation"))
    return view if int((view.mask == 1).sum()) >= FEW_PIXELS else None
