"""engine.prediction_files: every query has names of its own, and nothing of the user's is overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.prediction_files import PredictionFolder, output_names
from util.errors import UserError

IMAGE = np.zeros((4, 5, 3), dtype=np.uint8)
MASK = np.zeros((4, 5), dtype=np.uint8)


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
    assert list(output_names([Path(query) for query in queries]).values()) == names


def test_an_own_prediction_is_overwritten_and_nothing_else(tmp_path: Path) -> None:
    query, out = tmp_path / "x.jpg", tmp_path / "out"
    query.touch()
    for _ in range(2):
        folder = PredictionFolder(out)
        folder.reserve({query: "x"}, inputs=[query])
        folder.write("x", IMAGE, MASK, MASK.astype(np.float32))
    files = {"x_mask.png", "x_overlay.jpg", "x_probability.png"}
    assert {path.name for path in out.iterdir()} == {*files, "predictions.json"}
    assert PredictionFolder(out).written() == {out / name for name in files}
    for ending in ("_mask.png", "_probability.png", "_overlay.jpg"):
        own = out / f"y{ending}"
        own.write_text("the user's")
        folder = PredictionFolder(out)
        with pytest.raises(
            UserError, match=f"{own}: would be overwritten and is no earlier prediction; choose another"
        ):
            folder.reserve({tmp_path / "y.jpg": "y"}, inputs=[])
        assert own.read_text() == "the user's" and "y_mask.png" not in (out / "predictions.json").read_text()
        own.unlink()
    (out / "z_mask.png").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"z_mask\.png: would be overwritten"):
        PredictionFolder(out).reserve({tmp_path / "z.jpg": "z"}, inputs=[])


def test_a_prediction_that_is_an_input_is_not_overwritten(tmp_path: Path) -> None:
    """The mask of a first prediction may be the support of a second."""
    query = tmp_path / "x.jpg"
    folder = PredictionFolder(tmp_path)
    folder.reserve({query: "x"}, inputs=[query])
    folder.write("x", IMAGE, MASK, MASK.astype(np.float32))
    with pytest.raises(UserError, match=r"x_mask\.png: would be overwritten"):
        PredictionFolder(tmp_path).reserve({query: "x"}, inputs=[query, tmp_path / "x_mask.png"])


def test_what_is_no_output_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--output .*file: not a folder"):
        PredictionFolder(tmp_path / "file")
    for content in ("[]", '{"queries": []}', '{"other": 1}'):
        (tmp_path / "predictions.json").write_text(content)
        with pytest.raises(UserError, match=r"predictions\.json: not the file that predict\.py writes"):
            PredictionFolder(tmp_path)
