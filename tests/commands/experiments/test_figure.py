"""The figure: every method in the right place."""

from __future__ import annotations

from pathlib import Path

from commands.experiments.comparison import Row, Score
from commands.experiments.figure import figure, write_figure
from commands.experiments.methods import SHOTS, all_methods
from commands.experiments.vector_drawing import Dot, Line, Text


def row(name: str, shots: int, miou: float) -> Row:
    method = next(method for method in all_methods({5, 20, 100}) if method.name == name)
    score = Score(miou, miou - 2, miou + 3, None, 60)
    return Row(method, shots, {}, score)


ROWS = [row("nearest", 1, 38), row("unsupervised", 1, 50), row("tuned_5", 1, 48), row("tuned_100", 1, 52)]


def heights() -> dict[float, float]:
    """Pixels from the top of the ticks, by their percent, in the first panel."""
    texts = [shape for shape in figure(ROWS) if isinstance(shape, Text) and shape.anchor == "end"]
    return {float(text.text): text.place[1] for text in texts[: len(texts) // len(SHOTS)]}


def test_dots_are_at_the_miou_of_their_share() -> None:
    ticks = heights()
    (low, low_y), *_, (high, high_y) = sorted(ticks.items())
    scale = (high_y - low_y) / (high - low)
    shares = {
        shape.text: shape.place[0] for shape in figure(ROWS) if isinstance(shape, Text) and "%" in shape.text[-1:]
    }
    first, last = (shape for shape in figure(ROWS) if isinstance(shape, Dot))
    for dot, miou in ((first, 48), (last, 52)):
        assert abs(dot.centre[1] - (low_y + (miou - low) * scale)) < 1e-6
    assert first.centre[0] < last.centre[0] and list(shares) == ["5 %", "100 %"]
    bars = [
        shape for shape in figure(ROWS) if isinstance(shape, Line) and shape.start[0] == shape.end[0] == last.centre[0]
    ]
    assert [abs(bars[0].start[1] - bars[0].end[1])] == [abs(5 * scale)]


def test_methods_without_labels_are_level_lines() -> None:
    dashed = [shape for shape in figure(ROWS) if isinstance(shape, Line) and shape.dash]
    levels = [line for line in dashed if line.end[0] - line.start[0] > 100]
    assert len(levels) == 2 and all(line.start[1] == line.end[1] for line in levels)
    assert levels[1].start[1] < levels[0].start[1]  # 50 is above 38


def test_every_interval_is_within_the_axis() -> None:
    assert min(heights()) <= 36 and max(heights()) >= 55
    assert 4 <= len(heights()) <= 10


def test_files_are_written_once_a_method_has_all_folds(tmp_path: Path) -> None:
    assert not write_figure([row._replace(mean=None) for row in ROWS], tmp_path / "a_b")
    assert write_figure(ROWS, tmp_path / "a_b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_b.png", "a_b.svg"]
    assert "supervised, from the unsupervised network" in (tmp_path / "a_b.svg").read_text()
    assert "from scratch" not in (tmp_path / "a_b.svg").read_text()
