"""The bootstrap: how far other test images, and other seeds of a training, could have moved a mIoU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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
        mious = np.stack([100 * mean_over_classes(self._ious(rows)) for rows in tables], axis=1)
        return (self._shares(tables, method) * mious).sum(axis=1)

    def ious(self, tables: Sequence[Sequence[EpisodeScore]], method: str = "") -> dict[int, np.ndarray]:
        """The same for the IoU of each slot; NaN for a draw that has no image of it."""
        shares, ious = self._shares(tables, method), [self._ious(rows) for rows in tables]
        return {
            slot: 100 * (shares * np.stack([table[slot] for table in ious], axis=1)).sum(axis=1) for slot in ious[0]
        }

    def aucs(self, rows: Sequence[EpisodeScore], min_area: int) -> np.ndarray:
        """Area under the ROC curve in percent of the similarity of one class's rows, for each draw, (draws + 1,).

        Between images in which the class covers ``min_area`` pixels and those without it; NaN for a draw that lacks
        one of the two.
        """
        rows = sorted(
            (row for row in rows if row.areas.true == 0 or row.areas.true >= min_area),
            key=lambda row: row.similarity or 0.0,
        )
        times = self._times_drawn[:, [self._column_of[row.query] for row in rows]]
        present = np.array([row.areas.true > 0 for row in rows])
        # Rows of equal similarity count half against each other.
        _, starts = np.unique([row.similarity for row in rows], return_index=True)
        positive, negative = (np.add.reduceat(times * chosen, starts, axis=1) for chosen in (present, ~present))
        below = np.cumsum(negative, axis=1) - negative / 2
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        won = (positive * below).sum(axis=1)
        return 100 * np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)

    def _shares(self, tables: Sequence[Sequence[EpisodeScore]], method: str) -> np.ndarray:
        """How much each seed counts in each draw, (draws + 1, seeds)."""
        return _times_drawn(len(tables), self.draws, self.seed, "seeds", method) / len(tables)

    def _ious(self, rows: Sequence[EpisodeScore]) -> dict[int, np.ndarray]:
        """IoU of each slot in 0..1 for each draw of images, NaN for one that has no image of it."""
        columns = np.array([self._column_of[row.query] for row in rows])
        slots = np.array([row.slot for row in rows])
        overlap = np.array([row.areas.overlap for row in rows])
        union = np.array([row.areas.predicted + row.areas.true for row in rows]) - overlap
        ious = {}
        for slot in np.unique(slots).tolist():
            chosen = slots == slot
            times = self._times_drawn[:, columns[chosen]]
            drawn = times @ union[chosen]
            ious[slot] = np.where(drawn > 0, times @ overlap[chosen] / np.maximum(drawn, 1), np.nan)
        return ious


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


def mean_over_classes(ious: Mapping[int, np.ndarray]) -> np.ndarray:
    """Mean over the classes for each draw; those that a draw leaves out (NaN) do not count, NaN where it leaves all."""
    table = np.stack([*ious.values()])
    present = ~np.isnan(table)
    classes = present.sum(axis=0)
    total = np.where(present, table, 0).sum(axis=0)
    return np.divide(total, classes, out=np.full_like(total, np.nan), where=classes > 0)


def _times_drawn(count: int, draws: int, *key: object) -> np.ndarray:
    """How often each of ``count`` things is drawn, (draws + 1, count); each of them once in the first line."""
    times = numpy_random(*key).multinomial(count, np.full(count, 1 / count), size=draws)
    return np.concatenate([np.ones_like(times[:1]), times])
