"""engine.prediction_names: every query has a name of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.prediction_names import output_names


@pytest.mark.parametrize(
    ("queries", "names"),
    [
        (["/q/x.jpg", "/q/y.png"], ["x", "y"]),
        (["/q/a/x.jpg", "/q/b/x.jpg", "/q/y.jpg"], ["a/x", "b/x", "y"]),
        (["/p/a/x.jpg", "/q/a/x.jpg"], ["p/a/x", "q/a/x"]),
        (["/q/x.jpg", "/q/x.png"], ["x.jpg", "x.png"]),
        (["/a/x.jpg", "/a/x.png", "/b/x.jpg"], ["a/x.jpg", "a/x.png", "b/x.jpg"]),
        (["/q/x.jpg", "/q/X.jpg"], ["x", "X_2"]),  # one file on some disks
        (["/q/x.jpg", "/q/x.png", "/q/x.jpg.jpeg"], ["x.jpg", "x.png", "x.jpg_2"]),
        (["/x.jpg", "/a/x.jpg"], ["x", "a/x"]),
        (["a/x.jpg", "a/b/../../c/x.jpg"], ["a/x", "c/x"]),
        (["/q/photo.2024.jpg"], ["photo.2024"]),
    ],
)
def test_names_are_as_short_as_they_can_be(queries: list[str], names: list[str]) -> None:
    assert list(output_names({Path(query): Path(Path(query).name) for query in queries}).values()) == names


@pytest.mark.parametrize(
    ("queries", "names"),
    [
        ({"/q/a/x.jpg": "a/x.jpg", "/q/y.jpg": "y.jpg"}, ["a/x", "y"]),
        ({"/q/a/x.jpg": "a/x.jpg", "/q/a/x.png": "a/x.png"}, ["a/x.jpg", "a/x.png"]),
        ({"/p/a/x.jpg": "a/x.jpg", "/q/a/x.jpg": "a/x.jpg"}, ["p/a/x", "q/a/x"]),
        ({"/q/a/x.jpg": "a/x.jpg", "/r/x.jpg": "x.jpg"}, ["a/x", "x"]),
    ],
)
def test_names_keep_the_path_within_the_folder_that_was_searched(queries: dict[str, str], names: list[str]) -> None:
    assert list(output_names({Path(query): Path(kept) for query, kept in queries.items()}).values()) == names
