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


HEADER = "class,query,overlap,predicted,true,pixels\n"


@pytest.mark.parametrize("content", [b"", b"\n", b"a,b\n1,2\n", HEADER.encode(), b"\xff\xfe", b"\x00", b"x" * 200_000])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "episodes.csv").write_bytes(content)
    with pytest.raises(UserError, match="not a table of scores"):
        read_scores(tmp_path)


@pytest.mark.parametrize(
    "row",
    [
        "",
        "1,a.jpg,2",
        "1,a.jpg,1,2,3,9,9",
        "1,a.jpg,nan,2,3,9",
        "1,a.jpg,-1,2,3,9",
        "1.0,a.jpg,1,2,3,9",
        "1,a.jpg,1_0,20,30,90",
        f"1,a.jpg,1,2,3,{10**300}",
        "1,a.jpg,3,2,3,9",  # the overlap is larger than what is predicted
        "1,a.jpg,4,5,3,9",  # ... than what is true
        "1,a.jpg,1,6,5,9",  # more object than pixels
        "1,a.jpg,0,0,0,9",  # no true object
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, row: str) -> None:
    (tmp_path / "episodes.csv").write_text(f"{HEADER}3,a.jpg,1,2,3,9\n{row}\n")
    with pytest.raises(UserError, match=r"episodes\.csv, line 3: (expected class|areas that no prediction has)"):
        read_scores(tmp_path)
