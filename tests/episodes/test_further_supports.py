"""Which images of a folder become further supports, and what they show as such."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from episodes.further_supports import FEW_PIXELS, as_support, further_supports, rounds
from episodes.transforms import ValTransform, View

VIEW = View(torch.zeros(3, 9, 9), torch.ones(9, 9, dtype=torch.int64), torch.zeros(9, 9, dtype=torch.bool))


@pytest.mark.parametrize(("shots", "taken"), [(1, [6, 0, 3, 5]), (3, [6, 0]), (4, [6]), (5, []), (8, [])])
def test_the_surest_fill_up_to_five(shots: int, taken: list[int]) -> None:
    """The first of equal ones; not those of one half, and none that was not judged."""
    probabilities = {0: 0.8, 1: 0.5, 2: None, 3: 0.7, 4: 0.1, 5: 0.7, 6: 0.99, 7: 0.6}
    asked: list[int] = []

    def support(number: int) -> View:
        asked.append(number)
        return VIEW

    assert [*further_supports(probabilities, shots, support)] == taken == asked


def test_small_folders_and_five_supports_take_none() -> None:
    assert rounds(100, 4) == rounds(5000, 1) > 0 == rounds(99, 1) == rounds(5000, 5)


def test_what_shows_too_little_leaves_its_place_to_the_next() -> None:
    probabilities = {number: 0.9 - 0.01 * number for number in range(10)}
    taken = further_supports(probabilities, 1, lambda number: None if number in (0, 2) else VIEW)
    assert [*taken] == [1, 3, 4, 5] and taken[1] is VIEW
    assert further_supports(probabilities, 1, lambda _: None) == {}


@pytest.mark.parametrize("side", [15, 16])
def test_what_is_marked_is_the_object_of_a_support(side: int) -> None:
    """An image that the input shows at half of its size: 15 x 15 pixels of it are 8 x 8 there, or fewer."""
    image = np.arange(128 * 128 * 3, dtype=np.uint8).reshape(128, 128, 3)
    prediction = np.zeros((128, 128), dtype=bool)
    prediction[40 : 40 + side, 20 : 20 + side] = True
    transform = ValTransform(size=65)
    view = as_support(image, prediction, transform)
    expected = transform(image, prediction.astype(np.uint8))
    marked = int((expected.mask == 1).sum())
    assert (view is None) == (marked < FEW_PIXELS)
    if view is not None:
        assert all(torch.equal(*parts) for parts in zip(view, expected, strict=True))
