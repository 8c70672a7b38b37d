"""The bootstrap: how far other test images, and other seeds of a training, could have moved a mIoU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from engine.metrics import EpisodeScore
from util.seed import numpy_random

DRAWS = 2000
# Percent of the draws that lie in an interval.
LEVEL = 95


class Bootstrap:
    """Images that are drawn with replacement ``draws`` times, and with them the seeds of a training.

    All episodes of a query image are drawn together, because they share its pixels, and the same images for every test
    that is asked about. The first value of all that follow is the test itself: every image and every seed once.
    """

    def __init__(self, images: Iterable[str], *, draws: int = DRAWS, seed: int = 0) -> None:
        names = sorted(set(images))
        self.draws = draws
        self.seed = seed
        self._column_of = {name: column for column, name in enumerate(names)}
        self._times_drawn = _times_drawn(len(names), draws, seed, "bootstrap")

    def mious(self, tables: Sequence[Sequence[EpisodeScore]], method: str = "") -> np.ndarray:
        """mIoU in percent for each draw, (draws + 1,), of what was trained with several seeds.

        ``tables`` holds the scores of each seed. The mIoU of a draw is the mean over as many seeds as there are, drawn
        with replacement apart from the images: the same ones in every test of a ``method``, others for another method.
        One seed says nothing about others; the spread of few is underestimated, of two by a factor of 1.4.
        """
        shares = _times_drawn(len(tables), self.draws, self.seed, "seeds", method) / len(tables)
        mious = np.stack([self._mious(rows) for rows in tables], axis=1)
        return (shares * mious).sum(axis=1)

    def _mious(self, rows: Sequence[EpisodeScore]) -> np.ndarray:
        """mIoU in percent for each draw of images; classes that it leaves out do not count, NaN where it leaves all."""
        columns = np.array([self._column_of[row.query] for row in rows])
        slots = np.array([row.slot for row in rows])
        overlap = np.array([row.areas.overlap for row in rows])
        union = np.array([row.areas.predicted + row.areas.true for row in rows]) - overlap
        total, classes = np.zeros(self.draws + 1), np.zeros(self.draws + 1)
        for slot in np.unique(slots):
            chosen = slots == slot
            times = self._times_drawn[:, columns[chosen]]
            drawn = times @ union[chosen]
            total += times @ overlap[chosen] / np.maximum(drawn, 1)
            classes += drawn > 0
        return 100 * np.divide(total, classes, out=np.full_like(total, np.nan), where=classes > 0)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest of the middle 95 % of the draws; ``values`` as ``Bootstrap`` returns them.

    Draws without a value do not count: of several small tests, they leave one without an image.
    """
    outside = (100 - LEVEL) / 2
    low, high = np.nanpercentile(values[1:], [outside, 100 - outside])
    return float(low), float(high)


def miou_interval(tables: Sequence[Sequence[EpisodeScore]]) -> list[float]:
    """The 95 % interval of the mIoU in percent, of one test or of the tests of several seeds on the same episodes."""
    bootstrap = Bootstrap(row.query for rows in tables for row in rows)
    return list(interval(bootstrap.mious(tables)))


def _times_drawn(count: int, draws: int, *key: object) -> np.ndarray:
    """How often each of ``count`` things is drawn, (draws + 1, count); each of them once in the first line."""
    times = numpy_random(*key).multinomial(count, np.full(count, 1 / count), size=draws)
    return np.concatenate([np.ones_like(times[:1]), times])
