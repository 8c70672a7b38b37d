"""The paper's figure: mIoU against the share of the labels, a panel for each number of shots."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from commands.experiments.comparison import Row, Score
from commands.experiments.methods import SHOTS, TRAININGS
from commands.experiments.vector_drawing import Dot, Line, Shape, Text, png, svg
from engine.bootstrap import LEVEL
from util.files import write_bytes, write_text

# Pixels: a panel, and what is left for titles and labels around it.
_WIDTH, _HEIGHT = 420, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 32, 60
_LEGEND_LINE = 20
_TRAINING_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")  # told apart by the colour-blind
_COLOURS = {"unsupervised": "#000000", "nearest": "#555555", "prototype": "#888888", "untrained": "#bbbbbb"}
_DASHES = {"unsupervised": 9.0, "nearest": 6.0, "prototype": 4.0, "untrained": 2.0}
_MOST_TICKS = 8


def write_figure(rows: Sequence[Row], base: Path) -> bool:
    """Write ``base`` with the suffixes svg and png; False where no method is tested on all folds yet."""
    whole = [row for row in rows if row.mean is not None]
    if not whole:
        return False
    shapes = list(figure(whole))
    legend = len(_legend(whole)) * _LEGEND_LINE
    size = len(SHOTS) * (_LEFT + _WIDTH + _RIGHT), _TOP + _HEIGHT + _BOTTOM + legend
    write_text(base.with_name(f"{base.name}.svg"), svg(shapes, size))
    write_bytes(base.with_name(f"{base.name}.png"), png(shapes, size))
    return True


def figure(rows: Sequence[Row]) -> Iterator[Shape]:
    """Lines over the shares of the labels, level lines for methods without labels; intervals as bars."""
    shares = sorted({row.method.percent for row in rows if row.method.training})
    scale = _Scale([row.mean for row in rows if row.mean is not None])
    for number, shots in enumerate(SHOTS):
        left = number * (_LEFT + _WIDTH + _RIGHT) + _LEFT
        yield from _axes(left, f"{shots} shot{'s' * (shots > 1)}", shares, scale)
        yield from _curves(left, [row for row in rows if row.shots == shots], shares, scale)
    for number, (title, colour, dash) in enumerate(_legend(rows)):
        y = _TOP + _HEIGHT + _BOTTOM + number * _LEGEND_LINE
        yield Line((_LEFT, y), (_LEFT + 36, y), colour, width=2, dash=dash)
        yield Text((_LEFT + 44, y), title)


class _Scale:
    """From percent of mIoU to pixels, with ticks at round numbers around all intervals."""

    def __init__(self, scores: Sequence[Score]) -> None:
        low, high = min(score.low for score in scores), max(score.high for score in scores)
        steps = (step for step in (1, 2, 5, 10, 20) if (high - low) / step <= _MOST_TICKS - 2)
        step = next(steps, 20)
        self.bottom, self.top = step * math.floor(low / step), step * (math.floor(high / step) + 1)
        self.ticks = range(self.bottom, self.top + 1, step)

    def y(self, percent: float) -> float:
        return _TOP + _HEIGHT * (self.top - percent) / (self.top - self.bottom)


def _axes(left: float, title: str, shares: Sequence[float], scale: _Scale) -> Iterator[Shape]:
    bottom = _TOP + _HEIGHT
    yield Text((left + _WIDTH / 2, _TOP - 16), title, "middle")
    for tick in scale.ticks:
        yield Line((left, scale.y(tick)), (left + _WIDTH, scale.y(tick)), "#e6e6e6")
        yield Text((left - 8, scale.y(tick)), str(tick), "end")
    for share in shares:
        yield Text((_x(left, share, shares), bottom + 14), f"{share:g} %", "middle")
    yield Text((left + _WIDTH / 2, bottom + 32), "share of the images with labels", "middle")
    yield Line((left, _TOP), (left, bottom), "#000000")
    yield Line((left, bottom), (left + _WIDTH, bottom), "#000000")
    yield Text((left, _TOP - 16), "mIoU", "middle")


def _curves(left: float, rows: Sequence[Row], shares: Sequence[float], scale: _Scale) -> Iterator[Shape]:
    for row in (row for row in rows if not row.method.training):
        name, level = row.method.name, scale.y(_mean(row).miou)
        yield Line((left, level), (left + _WIDTH, level), _COLOURS[name], width=2, dash=_DASHES[name])
        # Side by side at the left end.
        yield from _bar(left + 8 + 8 * list(_COLOURS).index(name), _mean(row), _COLOURS[name], scale)
    for number, training in enumerate(TRAININGS):
        colour = _TRAINING_COLOURS[number % len(_TRAINING_COLOURS)]
        points = [
            (_x(left, row.method.percent, shares) + 4 * number, _mean(row))
            for row in rows
            if row.method.training == training
        ]
        places = [(x, scale.y(score.miou)) for x, score in points]
        yield from (Line(start, end, colour, width=2) for start, end in pairwise(places))
        for (x, score), place in zip(points, places, strict=True):
            yield from _bar(x, score, colour, scale)
            yield Dot(place, colour)


def _bar(x: float, score: Score, colour: str, scale: _Scale) -> Iterator[Shape]:
    yield Line((x, scale.y(score.low)), (x, scale.y(score.high)), colour, width=1.5)


def _legend(rows: Sequence[Row]) -> list[tuple[str, str, float]]:
    """Title, colour and dashes of each line of the figure, and what its bars are."""
    methods = {row.method.name: row.method for row in rows}
    entries = [
        (training.title, _TRAINING_COLOURS[number % len(_TRAINING_COLOURS)], 0.0)
        for number, training in enumerate(TRAININGS)
        if any(method.training == training for method in methods.values())
    ]
    without = [name for name in _COLOURS if name in methods]
    entries += [(f"{name}: {methods[name].title}", _COLOURS[name], _DASHES[name]) for name in without]
    return [*entries, (f"bars: {LEVEL} % intervals of the mean over the folds", "#ffffff", 0.0)]


def _x(left: float, share: float, shares: Sequence[float]) -> float:
    """The shares lie at even distances, right of the bars of methods without labels."""
    return left + _WIDTH * (shares.index(share) + 1) / (len(shares) + 0.5)


def _mean(row: Row) -> Score:
    assert row.mean is not None  # others are not drawn
    return row.mean
