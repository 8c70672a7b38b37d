"""engine.prediction_files: nothing of the user's is overwritten, and nothing is predicted twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.prediction_files import PredictionFolder
from engine.predictions import Prediction
from engine.supports import Support
from util.errors import UserError
from util.images import read_image, write_label
from util.images.draw import class_colours

IMAGE = np.zeros((4, 5, 3), dtype=np.uint8)
MASK = np.zeros((4, 5), dtype=np.uint8)
PREDICTION = Prediction(IMAGE, MASK, {"object": MASK.astype(np.float32)}, {"object": None})


def reserved(folder: Path, names: dict[Path, str], inputs: Sequence[Path] = (), **options: Any) -> PredictionFolder:
    output = PredictionFolder(folder)
    output.reserve(names, inputs, **{"classes": ["object"], "settings": "s", **options})
    return output


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def write(output: PredictionFolder, query: Path, name: str, prediction: Prediction = PREDICTION) -> None:
    with output.recording():
        output.write(query, name, prediction)


def test_a_corrected_mask_is_not_overwritten(tmp_path: Path) -> None:
    """It stays where nothing is predicted again, and with other settings the command stops before it writes."""
    query, mask = tmp_path / "x.jpg", tmp_path / "out" / "x_mask.png"
    query.touch()
    names = {query: "x"}
    write(reserved(tmp_path / "out", names, settings="one"), query, "x")
    write_label(mask, np.ones((4, 5), dtype=np.uint8))
    corrected = mask.read_bytes()
    assert not PredictionFolder(tmp_path / "out").reserve(names, [], classes=["object"], settings="one")
    before = (tmp_path / "out" / "predictions.json").read_bytes()
    with pytest.raises(UserError, match=r"x_mask\.png: was changed after it was predicted; move it away or choose"):
        reserved(tmp_path / "out", names, settings="two")
    assert mask.read_bytes() == corrected and (tmp_path / "out" / "predictions.json").read_bytes() == before
    mask.rename(tmp_path / "corrected.png")
    write(reserved(tmp_path / "out", names, settings="two"), query, "x")


def test_an_own_prediction_is_overwritten_and_nothing_else(tmp_path: Path) -> None:
    query, out = tmp_path / "x.jpg", tmp_path / "out"
    query.touch()
    for settings in ("one", "two"):
        write(reserved(out, {query: "x"}, [query], settings=settings), query, "x")
    files = {"x_mask.png", "x_overlay.jpg", "thumbnails/x.jpg", "areas.csv", "sheet.jpg", "index.html"}
    assert files_in(out) == {*files, "predictions.json"}
    assert PredictionFolder(out).written() == {out / name for name in files}
    for ending in ("_mask.png", "_overlay.jpg"):
        own = out / f"y{ending}"
        own.write_text("the user's")
        with pytest.raises(
            UserError, match=f"{own}: would be overwritten and is no earlier prediction; choose another"
        ):
            reserved(out, {tmp_path / "y.jpg": "y"})
        assert own.read_text() == "the user's" and "y_mask.png" not in (out / "predictions.json").read_text()
        own.unlink()
    (out / "z_mask.png").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"z_mask\.png: would be overwritten"):
        reserved(out, {tmp_path / "z.jpg": "z"})
    (tmp_path / "areas.csv").touch()
    with pytest.raises(UserError, match=r"areas\.csv: would be overwritten"):
        reserved(tmp_path, {query: "x"})


def test_a_prediction_that_is_an_input_is_not_overwritten(tmp_path: Path) -> None:
    """The mask of a first prediction may be the support of a second."""
    query = tmp_path / "x.jpg"
    query.touch()
    write(reserved(tmp_path, {query: "x"}, [query]), query, "x")
    with pytest.raises(UserError, match=r"x_mask\.png: would be overwritten"):
        reserved(tmp_path, {query: "x"}, [query, tmp_path / "x_mask.png"])


def test_what_was_predicted_with_the_same_settings_is_not_missing(tmp_path: Path) -> None:
    query, out = tmp_path / "x.jpg", tmp_path / "out"
    query.write_text("first")
    write(reserved(out, {query: "x"}), query, "x")

    def missing(settings: str = "s", classes: Sequence[str] = ("object",)) -> dict[Path, str]:
        return PredictionFolder(out).reserve({query: "x"}, [query], classes=classes, settings=settings)

    assert missing() == {}
    assert missing(settings="other") == {query: "x"}
    assert missing() == {query: "x"}  # its files may be those of the other settings by now
    for change in (lambda: query.write_text("second"), (out / "x_overlay.jpg").unlink):
        write(reserved(out, {query: "x"}), query, "x")
        assert missing() == {}
        change()
        assert missing() == {query: "x"}


def test_what_other_forms_need_is_predicted_and_nothing_else(tmp_path: Path) -> None:
    query, out = tmp_path / "x.jpg", tmp_path / "out"
    query.touch()

    def missing(*forms: str, settings: str = "s") -> bool:
        output = PredictionFolder(out)
        is_missing = bool(output.reserve({query: "x"}, [query], classes=["object"], settings=settings, forms=forms))
        if is_missing:
            write(output, query, "x")
        return is_missing

    assert missing("mask")
    assert missing("mask", "labelme") and not missing("labelme") and not missing("mask")
    assert missing("coco") and not missing("coco", "labelme")
    assert missing("sheet") and not missing("sheet")
    (out / "index.html").unlink()
    assert not missing("sheet") and (out / "index.html").is_file()  # made again of what is there
    assert files_in(out) == {
        *("x_mask.png", "x.json", "predictions.coco.json", "thumbnails/x.jpg", "sheet.jpg", "index.html"),
        *("areas.csv", "predictions.json"),
    }
    # Other settings leave nothing of these.
    (out / "own.txt").touch()
    assert missing("mask", settings="other")
    assert files_in(out) == {"x_mask.png", "areas.csv", "predictions.json", "own.txt"}


def test_an_interrupted_command_leaves_what_is_about_all_that_is_done(tmp_path: Path) -> None:
    queries = {tmp_path / f"{name}.jpg": name for name in "ab"}
    for query in queries:
        query.touch()
    output = reserved(tmp_path / "out", queries, forms=["coco", "sheet"])
    with pytest.raises(KeyboardInterrupt), output.recording():
        output.write(tmp_path / "a.jpg", "a", PREDICTION)
        raise KeyboardInterrupt
    content = json.loads((tmp_path / "out/predictions.coco.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.jpg"]
    assert "1 of 1" in (tmp_path / "out/index.html").read_text() and (tmp_path / "out/sheet.jpg").is_file()
    assert list(reserved(tmp_path / "out", queries, forms=["coco", "sheet"])._current()) == ["a"]


def test_supports_are_shown_with_what_their_masks_mark(tmp_path: Path) -> None:
    mask = np.zeros((4, 5), dtype=np.uint8)
    mask[0, 0] = mask[3, 2:] = 1
    assert Support("m/x_mask.png", IMAGE, mask).described() == ["x_mask.png", "marks 20 % of the photograph, 2 pieces"]
    output = reserved(tmp_path, {}, supports=2)
    large = Support("x_mask.png", np.full((80, 80, 3), 90, dtype=np.uint8), np.ones((80, 80), dtype=np.uint8))
    large.mask[:, 40:] = 0
    output.write_supports({"dog": [large], "cat": [large]})
    assert tmp_path / "supports.jpg" in output.written()
    sheet = read_image(tmp_path / "supports.jpg").astype(int)
    halves = sheet[:320, : sheet.shape[1] // 2], sheet[:320, sheet.shape[1] // 2 :]
    for half, own, other in ((halves[0], 1, 2), (halves[1], 2, 1)):  # each class in its colour
        own_pixels, other_pixels = (
            (abs(half - class_colours(np.array(number))).max(axis=2) < 40).sum() for number in (own, other)
        )
        assert own_pixels > 100 and other_pixels == 0


def test_names_need_not_be_text(tmp_path: Path) -> None:
    """A table in UTF-8 cannot hold such a name, and pydantic's JSON replaced it, so that its files were lost."""
    query, out = Path(f"{tmp_path}/x\udcff.jpg"), tmp_path / "out"
    query.touch()
    write(reserved(out, {query: "x\udcff"}), query, "x\udcff")
    assert PredictionFolder(out).reserve({query: "x\udcff"}, [query], classes=["object"], settings="s") == {}
    assert "%FF.jpg" in (out / "index.html").read_text()
    assert "x\\udcff.jpg,object" in (out / "areas.csv").read_text()


def test_several_classes_have_a_map_each_and_a_row_in_the_table(tmp_path: Path) -> None:
    query = tmp_path / "x.jpg"
    query.touch()
    mask = np.array([[0, 1, 1, 0, 2]] * 4, dtype=np.uint8)
    maps = {"dog": np.full((4, 5), 0.75, dtype=np.float32), "cat": np.full((4, 5), 0.5, dtype=np.float32)}
    forms = ["mask", "probability", "probability16"]
    output = reserved(tmp_path / "out", {query: "x"}, classes=["dog", "cat"], forms=forms)
    write(output, query, "x", Prediction(IMAGE, mask, maps, {"dog": 0.9, "cat": None}))
    assert {path.name for path in (tmp_path / "out").glob("x_*")} == {
        *("x_mask.png", "x_probability_dog.png", "x_probability_cat.png"),
        *("x_probability16_dog.png", "x_probability16_cat.png"),
    }
    for ending, level in (("", 191), ("16", 49151)):  # of 0.75, of as many levels as there are bits
        with Image.open(tmp_path / f"out/x_probability{ending}_dog.png") as grey:
            assert grey.mode == ("I;16" if ending else "L") and (np.array(grey) == level).all()
    assert (tmp_path / "out" / "areas.csv").read_text().splitlines() == [
        "query,class,presence,pixels,share,probability",
        f"{query},dog,0.9,8,0.4,0.75",
        f"{query},cat,,4,0.2,0.5",
    ]
    with pytest.raises(UserError, match="would be written twice; give the classes or"):
        reserved(tmp_path / "new", {query: "x"}, classes=["dog", "Dog"], forms=["probability"])
    for name in ("predictions", "predictions.coco"):  # of labelme's JSON
        with pytest.raises(UserError, match="would be written twice"):
            reserved(tmp_path / "new", {query: name}, forms=["labelme", "coco"])


def test_what_is_no_output_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--output .*file: not a folder"):
        PredictionFolder(tmp_path / "file")
    for content in ("[]", '{"queries": []}', '{"other": 1}'):
        (tmp_path / "predictions.json").write_text(content)
        with pytest.raises(UserError, match=r"predictions\.json: not the file that predict\.py writes"):
            PredictionFolder(tmp_path)
