"""Superpixels: ids without gaps, the meaning of the parameters, borders of colour."""

import numpy as np
from skimage import segmentation

from masks.superpixels import felzenszwalb
from tests.masks.photographs import draw_photograph


def test_ids_count_from_zero_without_gaps() -> None:
    superpixels = felzenszwalb(draw_photograph(0))
    assert superpixels.dtype == np.int32
    assert superpixels.shape == (120, 160)
    assert np.array_equal(np.unique(superpixels), np.arange(superpixels.max() + 1))


def test_defaults_are_the_published_call() -> None:
    image = draw_photograph(1)
    published = segmentation.felzenszwalb(image, scale=100, sigma=0.8, min_size=200)
    assert np.array_equal(felzenszwalb(image), published)
    assert felzenszwalb(image, min_size=1).max() > published.max()


def test_order_of_channels_does_not_matter() -> None:
    image = draw_photograph(2)
    assert np.array_equal(felzenszwalb(image), felzenszwalb(np.ascontiguousarray(image[..., ::-1])))


def test_superpixels_end_where_the_colour_changes() -> None:
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    image[:, 30:] = 200
    superpixels = felzenszwalb(image)
    assert np.array_equal(superpixels, np.broadcast_to((np.arange(80) >= 30).astype(np.int32), (60, 80)))
