"""Masks in colours: tables in the ways people write them, every pixel by its colour, colours that no table has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prepare.folder.colour_masks import ColourMask, read_colours
from util.errors import UserError
from util.logging import start_logging

TABLE = "background 0 0 0\ncat 128 0 0\ntraffic light 0 128 64\nvoid 224 224 192\n"
LABELS = {(0, 0, 0): 0, (128, 0, 0): 1, (0, 128, 64): 2, (224, 224, 192): 255}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        TABLE,
        "0 0 0\tbackground\n128 0 0\tcat\n0 128 64\ttraffic light\n224 224 192\tvoid\n",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ntraffic light:0,128,64:a,b:c\n"
        "void:224,224,192::\n",
        "_Background_: 0, 0, 0\n\ncat: 128, 0, 0\n  traffic   light 000 128 064\nIgnored 224,224,192",
        "Void 224 224 192\ncat 128 0 0\nbackground 0 0 0\ntraffic light 0 128 64",
    ],
)
def test_tables_as_people_write_them(tmp_path: Path, text: str) -> None:
    table = read_colours(write(tmp_path / "colours.txt", text))
    assert table.names == ("cat", "traffic light")
    assert table.labels == LABELS


def test_the_first_is_background_where_none_is_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_logging()
    table = read_colours(write(tmp_path / "colours.txt", "void 0 0 0\n1 1 2 3\nclass 2 4 5 6\n"))
    assert table.names == ("1", "class 2")
    assert table.labels == {(0, 0, 0): 0, (1, 2, 3): 1, (4, 5, 6): 2}
    assert f"{table.path}: background is 'void', ignored are no pixels\n" in capsys.readouterr().err


def test_254_classes_fit(tmp_path: Path) -> None:
    lines = [f"class{number} {number} 7 9" for number in range(255)]
    table = read_colours(write(tmp_path / "colours.txt", "\n".join(lines)))
    assert len(table.names) == 254 and table.labels[(254, 7, 9)] == 254
    with pytest.raises(UserError, match=r"colours\.txt: 255 classes; masks have room for 254"):
        read_colours(write(tmp_path / "colours.txt", "\n".join([*lines, "one more 0 0 0"])))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_every_pixel_has_the_label_of_its_colour(tmp_path: Path, seed: int, mode: str) -> None:
    rng = np.random.default_rng(seed)
    colours = [tuple(colour) for colour in np.unique(rng.integers(0, 256, (40, 3)), axis=0).tolist()]
    rng.shuffle(colours)
    lines = [f"name{row} {red} {green} {blue}" for row, (red, green, blue) in enumerate(colours)]
    table = read_colours(write(tmp_path / "colours.txt", "\n".join(lines)))
    rows = rng.integers(0, len(colours), (17, 23))
    image = Image.fromarray(np.array(colours, dtype=np.uint8)[rows])
    (image.quantize() if mode == "P" else image.convert(mode)).save(tmp_path / "mask.png")
    mask = ColourMask(tmp_path / "mask.png", table)
    assert mask.size() == (17, 23)
    label = mask.read()
    assert label.dtype == np.uint8
    for y in range(17):
        for x in range(23):
            assert label[y, x] == table.labels[colours[rows[y, x]]]


def test_an_unknown_colour_is_named_with_its_pixels(tmp_path: Path) -> None:
    table = read_colours(write(tmp_path / "colours.txt", TABLE))
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[:5, :7] = (255, 128, 1)
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    expected = (
        rf"mask\.png: 35 pixels of colour 255 128 1 that {table.path} lacks; add a line there or correct the mask"
    )
    with pytest.raises(UserError, match=expected):
        ColourMask(tmp_path / "mask.png", table).read()
    pixels[10, 3], pixels[10, 4] = (128, 0, 1), (255, 255, 255)
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match=r"35 pixels of colour 255 128 1 \(and 2 more colours\) that"):
        ColourMask(tmp_path / "mask.png", table).read()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(
            (f"a 0 0 0\na{blanks * 100_000}b", ", line 2: 'a.*; expected NAME R G B")
            for blanks in (" ", ":", " :", "1 ")
        ),
        ("a 0 0 0\nb 1 1\n", ", line 2: 'b 1 1'; expected NAME R G B, R G B NAME or NAME:R,G,B, numbers from 0 to 255"),
        ("a 0 0 0\n1 2 3\n", ", line 2: '1 2 3'; expected"),
        ("a 0 0 0\n\nb 1 256 3\n", ", line 3: 'b 1 256 3'; expected"),
        ("a 0 0 0\nb 1 -1 3\n", ", line 2: 'b 1 -1 3'; expected"),
        ("a 0 0 0\nb 1 1 1\nc 2 2 2\nb 3 3 3\n", ": two lines are called 'b'; one colour for each name"),
        ("a 0 0 0\nb 1 1 1\nc 1 1 1\n", r": 'c' has the colour of another line \(1 1 1\)"),
        ("# nothing\n", ": no class in it"),
        ("a 0 0 0\n", ": no class in it"),
        ('{"a": [0, 0, 0]}', ", line 1"),
    ],
)
def test_bad_tables_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"colours\.txt{message}") as error:
        read_colours(write(tmp_path / "colours.txt", text))
    assert "\n" not in str(error.value)


def test_files_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.txt: file not found; expected NAME R G B"):
        read_colours(tmp_path / "gone.txt")
    (tmp_path / "binary.txt").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"binary\.txt: not a text file in UTF-8"):
        read_colours(tmp_path / "binary.txt")
    table = read_colours(write(tmp_path / "colours.txt", TABLE))
    Image.fromarray(np.zeros((4, 5), dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png: a mask in colours must have 8 bits per channel, this one is I"):
        ColourMask(tmp_path / "deep.png", table).read()
    (tmp_path / "text.png").write_text("no mask")
    with pytest.raises(UserError, match=r"text\.png: not a readable mask"):
        ColourMask(tmp_path / "text.png", table).read()


def test_transparent_pixels_are_background(tmp_path: Path) -> None:
    """Some tools give every pixel the object's colour, and the object by its opacity."""
    table = read_colours(write(tmp_path / "colours.txt", TABLE))
    pixels = np.full((48, 64, 4), (128, 0, 0, 0), dtype=np.uint8)
    pixels[10:34, 20:44, 3] = 255
    pixels[0, 0] = (9, 9, 9, 0)  # a colour that the table lacks
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    mask = ColourMask(tmp_path / "mask.png", table).read()
    assert (mask == 1).sum() == 576 and (mask == 0).sum() == 48 * 64 - 576
