"""The files of a comparison."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from commands.experiments.comparison import Row, Score
from commands.experiments.tables import markdown, write_tables
from tests.commands.experiments.small_study import study

ONE = Score(49.17, 47.94, 50.41, None, 66.6)
SEVERAL = Score(50.0, 48.0, 52.0, 0.44, 70.0)


def test_a_page_has_a_table_for_each_number_of_shots(tmp_path: Path) -> None:
    asked = study(tmp_path, "--only", "nearest,tuned_20", "--seeds", "1,2")
    nearest, tuned = asked.methods
    rows = [Row(nearest, 1, dict.fromkeys(range(4), ONE), ONE), Row(tuned, 5, {1: SEVERAL}, None)]
    lines = markdown(asked, rows).splitlines()
    assert lines[0] == "# pascal resnet50"
    assert "Seeds of the trainings: 1, 2." in lines
    one, five = lines.index("## 1 shot"), lines.index("## 5 shots")
    assert lines[one + 2 : one + 5] == [
        "| method | labels used | fold 0 | fold 1 | fold 2 | fold 3 | mean | 95 % interval | FB-IoU |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| `nearest`: cosine to the nearest pixels | none | 49.2 | 49.2 | 49.2 | 49.2 | 49.2 | 47.9 to 50.4 | 66.6 |",
    ]
    title = "`tuned_20`: supervised, from the unsupervised network"
    assert lines[five + 4] == f"| {title} | 20 % of the images |  | 50.0 ± 0.4 |  |  |  |  |  |"


def test_numbers_are_the_same_in_all_files(tmp_path: Path) -> None:
    asked = study(tmp_path, "TRAIN.epochs=3", "--only", "nearest,scratch_100", "--seeds", "1,2")
    nearest, scratch = asked.methods
    page = write_tables(asked, [Row(nearest, 1, {0: ONE}, None), Row(scratch, 5, {3: SEVERAL}, SEVERAL)], asked.folder)
    assert (tmp_path / "pascal_resnet50.md").read_text() == page
    with (tmp_path / "pascal_resnet50.csv").open() as stream:
        table = list(csv.DictReader(stream))
    contents = json.loads((tmp_path / "pascal_resnet50.json").read_text())
    assert [(row["method"], row["fold"], row["seeds"]) for row in table] == [
        ("nearest", "0", "1"),
        ("scratch_100", "3", "2"),
        ("scratch_100", "mean", "2"),
    ]
    assert [row["deviation"] for row in table] == ["", "0.44", "0.44"]
    assert [
        {key: "" if value is None else str(value) for key, value in row.items()} for row in contents["rows"]
    ] == table
    assert (contents["dataset"], contents["seeds"], contents["words"]) == ("pascal", [1, 2], ["TRAIN.epochs=3"])
    assert contents["lists"]["100"].endswith("lists/pascal/train.txt")
