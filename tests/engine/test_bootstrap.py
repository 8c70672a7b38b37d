"""The bootstrap: its draws against a loop, its width against fresh images, seeds that are drawn too."""

from __future__ import annotations

import numpy as np
import pytest

from engine.bootstrap import DRAWS, Bootstrap, interval, miou_interval
from engine.metrics import Areas, EpisodeMetrics, EpisodeScore
from util.seed import numpy_random


def scores(seed: int, images: int = 6) -> list[EpisodeScore]:
    """Of classes 1 and 2, two episodes for each image."""
    overlaps = np.random.default_rng(seed).integers(20, 60, size=2 * images)
    return [
        EpisodeScore(1 + i % 2, f"{i // 2}.jpg", Areas(int(overlap), 100, 100, 400))
        for i, overlap in enumerate(overlaps)
    ]


def constant(overlap: int) -> list[EpisodeScore]:
    """Episodes that no draw of images changes."""
    return [EpisodeScore(1, f"{i}.jpg", Areas(overlap, 100, 100, 400)) for i in range(5)]


def miou(rows: list[EpisodeScore]) -> float:
    return 100 * EpisodeMetrics(rows).miou()


def test_a_draw_is_the_test_of_the_images_that_it_draws() -> None:
    rows = scores(0)
    times = numpy_random(0, "bootstrap").multinomial(6, np.full(6, 1 / 6), size=20)
    expected = [miou([row for row in rows for _ in range(drawn[int(row.query[0])])]) for drawn in times]
    assert Bootstrap((row.query for row in rows), draws=20).mious([rows]) == pytest.approx([miou(rows), *expected])


def test_a_class_that_a_draw_leaves_out_does_not_count() -> None:
    rows = [EpisodeScore(1, "a", Areas(100, 100, 100, 400)), EpisodeScore(2, "b", Areas(0, 100, 100, 400))]
    assert set(Bootstrap("ab", draws=50).mious([rows]).tolist()) == {0, 50, 100}


def test_a_draw_that_leaves_a_small_test_without_an_image_does_not_count() -> None:
    small, large = scores(0, images=1), [row._replace(query=f"other{row.query}") for row in scores(1)]
    bootstrap = Bootstrap(row.query for row in [*small, *large])
    values = bootstrap.mious([small])
    assert np.isnan(values).mean() == pytest.approx((1 - 1 / 7) ** 7, abs=0.05)
    assert values[~np.isnan(values)] == pytest.approx(miou(small))
    mean = (values + bootstrap.mious([large])) / 2
    low, high = interval(mean)
    assert low < mean[0] < high


def test_the_interval_is_as_wide_as_other_images_make_it() -> None:
    """Against the mIoU of fresh images, whose spread it estimates."""
    low, high = miou_interval([scores(0, images=200)])
    spread = np.std([miou(scores(seed, images=200)) for seed in range(1, 200)])
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.2)
    assert low < miou(scores(0, images=200)) < high
    assert miou_interval([constant(50)]) == pytest.approx([100 / 3, 100 / 3])


def test_seeds_are_drawn_too() -> None:
    """Of two seeds both, or one of them twice, as often; the first value is their mean."""
    first, second = miou(constant(10)), miou(constant(50))
    values = Bootstrap(row.query for row in constant(10)).mious([constant(10), constant(50)])
    assert values[0] == pytest.approx((first + second) / 2)
    for value, chance in ((first, 1 / 4), ((first + second) / 2, 1 / 2), (second, 1 / 4)):
        assert np.isclose(values[1:], value).mean() == pytest.approx(chance, abs=0.04)
    assert miou_interval([constant(10), constant(50)]) == pytest.approx([first, second])


def test_seeds_are_the_same_for_every_test_of_a_method() -> None:
    tables = [constant(10), constant(20), constant(50)]
    bootstrap = Bootstrap(row.query for row in constant(10))
    of_method, again, of_another = (bootstrap.mious(tables, name) for name in ("first", "first", "second"))
    assert np.array_equal(of_method, again)
    assert abs(np.corrcoef(of_method, of_another)[0, 1]) < 0.1


def test_the_interval_leaves_out_what_is_rare_on_both_sides() -> None:
    values = np.concatenate([[1e9], np.arange(DRAWS + 1)])  # the test itself is no draw
    assert interval(values) == pytest.approx((0.025 * DRAWS, 0.975 * DRAWS))
