"""The table of single episodes."""

from pathlib import Path

import pytest

from engine.metrics import Areas, EpisodeScore
from engine.scores import read_photographs, read_scores, write_photographs, write_scores
from util.errors import UserError

SCORES = [EpisodeScore(3, 'JPEGImages/a, "b".jpg', Areas(1, 2, 3, 9)), EpisodeScore(4, "c.jpg", Areas(0, 0, 5, 8))]


def test_scores_come_back(tmp_path: Path) -> None:
    write_scores(tmp_path, SCORES)
    assert (tmp_path / "episodes.csv").read_text().startswith("class,query,overlap,predicted,true,pixels\n3,")
    assert read_scores(tmp_path) == SCORES


def test_scores_of_every_photograph_come_back(tmp_path: Path) -> None:
    """Also those of photographs without the object, and similarities to the last bit."""
    similarities = (0.1 + 0.2, -1e-9, 1.0, 0.0)
    scores = [EpisodeScore(3, "a.jpg", Areas(0, 5, 0, 9), similarity) for similarity in similarities]
    write_photographs(tmp_path, scores)
    assert read_photographs(tmp_path) == scores


@pytest.mark.parametrize("similarity", ["", "nan", "inf", "0x1", "1_0", "one", "1" * 300])
def test_a_similarity_that_is_none_is_named(tmp_path: Path, similarity: str) -> None:
    write_photographs(tmp_path, [EpisodeScore(3, "a.jpg", Areas(0, 5, 0, 9), 0.25)])
    table = tmp_path / "photographs.csv"
    table.write_text(table.read_text().replace("0.25", similarity))
    with pytest.raises(UserError, match=r"photographs\.csv, line 2: expected class, query, similarity"):
        read_photographs(tmp_path)


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
