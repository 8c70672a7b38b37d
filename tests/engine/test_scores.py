"""The table of single episodes."""

from pathlib import Path

import pytest

from engine.metrics import Areas, EpisodeScore
from engine.scores import read_scores, write_scores
from util.errors import UserError

SCORES = [EpisodeScore(3, 'JPEGImages/a, "b".jpg', Areas(1, 2, 3, 9)), EpisodeScore(4, "c.jpg", Areas(0, 0, 5, 8))]


def test_scores_come_back(tmp_path: Path) -> None:
    write_scores(tmp_path, SCORES)
    assert (tmp_path / "episodes.csv").read_text().startswith("class,query,overlap,predicted,true,pixels\n3,")
    assert read_scores(tmp_path) == SCORES


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"episodes\.csv: file not found"):
        read_scores(tmp_path)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "class,query,overlap,predicted,true,pixels\n1,a.jpg,2\n"])
def test_another_table_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "episodes.csv").write_text(text)
    with pytest.raises(UserError, match="not a table of scores"):
        read_scores(tmp_path)
