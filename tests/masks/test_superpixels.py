"""Superpixels against scikit-image, a naive merge of edges and images whose answer is known; what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data
from sklearn.metrics import adjusted_rand_score

from masks.superpixels import _DEVICES, backend, felzenszwalb, reference, superpixels_of_sizes
from tests.masks.small_images import draw_image

needs_native = pytest.mark.skipif(not _DEVICES, reason="the native operator is not built")
# Native costs are whole multiples of this.
UNIT = 2**-31


@pytest.fixture(params=["native", "reference"])
def segment(request: pytest.FixtureRequest) -> Callable[..., np.ndarray]:
    """``segment(image, scale, sigma, min_size)``: the public function where it runs natively, and the reference."""
    if request.param == "native" and not _DEVICES:
        pytest.skip("the native operator is not built")
    return felzenszwalb if request.param == "native" else reference.felzenszwalb


def draw_noise(seed: int, height: int, width: int, levels: int = 256) -> np.ndarray:
    """Independent pixels whose channels have ``levels`` values each, RGB uint8."""
    values = np.random.default_rng(seed).integers(0, levels, (height, width, 3))
    return (values * (255 // (levels - 1))).astype(np.uint8)


def draw_clouds(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth everywhere, RGB uint8: neighbours differ by so little that many edges cost the same."""
    noise = np.random.default_rng(seed).normal(0, 1, (height, width, 3))
    smooth = ndimage.gaussian_filter(noise, (9, 9, 0))
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def merge_naively(image: np.ndarray, scale: float, sigma: float, min_size: int) -> np.ndarray:
    """The paper's algorithm with sets of pixels, costs and order of equals as the native operator has them."""
    pixels = list(np.ndindex(image.shape[:2]))
    edges = list_edges(ndimage.gaussian_filter(image / 255, (sigma, sigma, 0)))
    segments = {pixel: {pixel} for pixel in pixels}
    difference = dict.fromkeys(pixels, 0)  # the internal one of the segment that the pixel is in

    def merge(first: tuple[int, ...], second: tuple[int, ...], cost: int) -> None:
        union = segments[first] | segments[second]
        segments.update(dict.fromkeys(union, union))
        difference.update(dict.fromkeys(union, cost))

    for cost, first, second in edges:
        limits = [difference[pixel] + scale / 255 / UNIT / len(segments[pixel]) for pixel in (first, second)]
        if second not in segments[first] and cost < min(limits):
            merge(first, second, cost)
    for cost, first, second in edges:
        if second not in segments[first] and min(len(segments[first]), len(segments[second])) < min_size:
            merge(first, second, cost)
    numbers: dict[tuple[int, ...], int] = {}
    for pixel in pixels:
        numbers.setdefault(min(segments[pixel]), len(numbers))
    return np.array([numbers[min(segments[pixel])] for pixel in pixels]).reshape(image.shape[:2])


def list_edges(smoothed: np.ndarray) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """Edges (cost, pixel, pixel) in the order in which they are walked."""
    edges = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        for row, column in np.ndindex(smoothed.shape[:2]):
            y, x = row + down, column + right
            if y < smoothed.shape[0] and 0 <= x < smoothed.shape[1]:
                cost = round(float(np.linalg.norm(smoothed[row, column] - smoothed[y, x])) / UNIT)
                edges.append((cost, (row, column), (y, x)))
    return sorted(edges, key=lambda edge: edge[0])


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    """The adjusted Rand index of two label maps."""
    return float(adjusted_rand_score(first.ravel(), second.ravel()))


def test_ids_count_from_zero_without_gaps_in_the_order_of_first_pixels(segment: Callable[..., np.ndarray]) -> None:
    superpixels = segment(draw_image(0), 100, 0.8, 200)
    assert superpixels.dtype == np.int32
    assert superpixels.shape == (120, 160)
    ids, first = np.unique(superpixels, return_index=True)
    assert np.array_equal(ids, np.arange(superpixels.max() + 1))
    assert np.array_equal(first, np.sort(first))


def test_defaults_are_the_published_call() -> None:
    image = draw_image(1)
    assert np.array_equal(felzenszwalb(image), reference.felzenszwalb(image, scale=100, sigma=0.8, min_size=200))


def test_none_is_smaller_than_asked_for(segment: Callable[..., np.ndarray]) -> None:
    image, counts = draw_image(1), []
    for min_size in (1, 50, 200, 3000):
        sizes = np.bincount(segment(image, 50, 0.5, min_size).ravel())
        assert sizes.min() >= min_size
        counts.append(len(sizes))
    assert counts == sorted(set(counts), reverse=True)
    assert segment(image, 50, 0.5, image.size).max() == 0


def test_a_larger_scale_gives_larger_superpixels(segment: Callable[..., np.ndarray]) -> None:
    image = draw_image(3)
    counts = [segment(image, scale, 0.8, 1).max() for scale in (1, 30, 300, 1e9)]
    assert counts == sorted(set(counts), reverse=True)
    assert counts[-1] == 0


def test_superpixels_end_where_the_colour_changes(segment: Callable[..., np.ndarray]) -> None:
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    image[:, 30:] = 200
    expected = np.broadcast_to((np.arange(80) >= 30).astype(np.int32), (60, 80))
    for sigma in (0, 0.8):
        assert np.array_equal(segment(image, 100, sigma, 200), expected)


@pytest.mark.parametrize("scale", [1e-12, 100.0, 1e300])
def test_an_image_of_one_colour_is_one_superpixel(segment: Callable[..., np.ndarray], scale: float) -> None:
    for height, width in ((1, 1), (1, 7), (7, 1), (20, 30)):
        assert not segment(np.full((height, width, 3), 77, dtype=np.uint8), scale, 0.8, 1).any()


@pytest.mark.parametrize(("height", "width"), [(1, 40), (40, 1), (2, 23), (1, 2)])
def test_thin_images_split_where_the_colour_changes(
    segment: Callable[..., np.ndarray], height: int, width: int
) -> None:
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image.reshape(-1, 3)[height * width // 2 :] = 250
    expected = np.arange(height * width).reshape(height, width) >= height * width // 2
    assert np.array_equal(segment(image, 20, 0, 1), expected)


@needs_native
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 30), (30, 1), (2, 2), (9, 13), (14, 8)])
@pytest.mark.parametrize(("scale", "min_size"), [(20.0, 1), (100.0, 5), (400.0, 12)])
@pytest.mark.parametrize("sigma", [0, 0.8, 3.0])
def test_native_is_the_naive_merge(height: int, width: int, scale: float, sigma: float, min_size: int) -> None:
    for levels in (256, 4, 2):  # with few values many costs are equal
        image = draw_noise(height * width + levels, height, width, levels)
        superpixels = felzenszwalb(image, scale, sigma, min_size)
        assert np.array_equal(superpixels, merge_naively(image, scale, sigma, min_size)), levels


@needs_native
@pytest.mark.parametrize(("height", "width"), [(120, 160), (61, 97), (33, 250), (250, 33), (1, 300), (300, 1)])
@pytest.mark.parametrize(
    ("scale", "sigma", "min_size"), [(100.0, 0.8, 200), (10.0, 0.8, 1), (300.0, 0.5, 20), (50.0, 5.0, 60)]
)
def test_native_is_scikit_image_where_no_costs_are_equal(
    height: int, width: int, scale: float, sigma: float, min_size: int
) -> None:
    for image in (draw_image(4, height, width), draw_noise(5, height, width)):
        ours, theirs = (function(image, scale, sigma, min_size) for function in (felzenszwalb, reference.felzenszwalb))
        assert np.array_equal(ours, theirs)


@needs_native
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_native_is_scikit_image_on_images(name: str) -> None:
    image = np.ascontiguousarray(getattr(data, name)()[40:290, :300])
    for scale, min_size in ((100.0, 200), (30.0, 20)):
        ours, theirs = (function(image, scale, 0.8, min_size) for function in (felzenszwalb, reference.felzenszwalb))
        assert similarity(ours, theirs) >= 0.99


@needs_native
def test_native_resembles_scikit_image_where_many_costs_are_equal() -> None:
    for seed in range(3):
        image = draw_clouds(seed, 120, 160)
        assert similarity(felzenszwalb(image), reference.felzenszwalb(image, 100, 0.8, 200)) >= 0.99


@needs_native
def test_order_of_channels_does_not_matter() -> None:
    for image in (draw_image(2), draw_clouds(2, 80, 90), draw_noise(2, 40, 50, levels=4)):
        expected = felzenszwalb(image, 50, 0.8, 20)
        for order in itertools.permutations(range(3)):
            assert np.array_equal(felzenszwalb(image[..., order], 50, 0.8, 20), expected)


@needs_native
def test_native_gives_the_same_bits_again_whatever_the_threads() -> None:
    image = draw_clouds(6, 200, 150)
    expected = felzenszwalb(image)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            assert np.array_equal(felzenszwalb(image), expected)
    finally:
        torch.set_num_threads(threads)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(result, expected) for result in pool.map(felzenszwalb, [image] * 8))


def test_several_sizes_are_those_of_single_calls() -> None:
    image = draw_clouds(8, 120, 90)
    sizes = [(25.0, 1), (400.0, 300), (25.0, 25), (0.5, 10)]
    together = superpixels_of_sizes(image, sizes, sigma=1.1)
    assert len(together) == len(sizes)
    for superpixels, (scale, min_size) in zip(together, sizes, strict=True):
        assert np.array_equal(superpixels, felzenszwalb(image, scale, 1.1, min_size))
    with pytest.raises(ValueError, match="min_size: expected 1 or more"):
        superpixels_of_sizes(image, [(25.0, 1), (25.0, 0)])


@needs_native
def test_images_in_any_memory_are_read_and_left_alone() -> None:
    image = draw_image(7)
    before, expected = image.copy(), felzenszwalb(image)
    frozen = image.copy()
    frozen.flags.writeable = False
    flipped = np.ascontiguousarray(image[::-1, :, ::-1])[::-1, :, ::-1]
    for same in (frozen, flipped, np.asfortranarray(image)):
        assert np.array_equal(felzenszwalb(same), expected)
    assert np.array_equal(image, before)


def test_what_cannot_be_cut_is_refused() -> None:
    image = np.zeros((4, 5, 3), dtype=np.uint8)
    with pytest.raises(TypeError, match="image: expected uint8, got float32"):
        felzenszwalb(image.astype(np.float32))
    for wrong in (image[..., 0], image[..., :2], image[:0], image[:, :0]):
        with pytest.raises(ValueError, match=r"image: expected \(H, W, 3\) with pixels, got \("):
            felzenszwalb(wrong)
    for scale in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"scale: expected a positive number, got {scale}"):
            felzenszwalb(image, scale=scale)
    for sigma in (-0.1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"sigma: expected 0 to 1000, got {sigma}"):
            felzenszwalb(image, sigma=sigma)
    with pytest.raises(ValueError, match="min_size: expected 1 or more, got 0"):
        felzenszwalb(image, min_size=0)


def test_says_what_it_runs_on() -> None:
    assert backend() == ("cpu" if _DEVICES else "reference")
