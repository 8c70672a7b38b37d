"""util.images.draw: outlines say where each class is, and text fits whatever it says."""

from __future__ import annotations

import numpy as np
import pytest

from util.images import captions
from util.images.captions import text_bar, text_box
from util.images.draw import captioned, captioned_sheet, class_colours, contact_sheet, outlined

GREY = np.full((40, 60, 3), 200, dtype=np.uint8)


def test_outlines_lie_on_both_sides_of_the_borders() -> None:
    """Bright on the object's pixels, dark on the background's, none along the border of the image."""
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[10:30, :20], mask[10:30, 20:40] = 1, 2
    picture = outlined(GREY, mask)
    for row in range(40):
        for column in range(60):
            around = mask[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            number = mask[row, column]
            expected = GREY[row, column] if number else np.rint(0.6 * GREY[row, column])
            if (around != number).any():
                expected = class_colours(number) if number else np.full(3, 20)
            assert np.array_equal(picture[row, column], expected), (row, column)
    assert np.array_equal(outlined(GREY, np.zeros_like(mask)), GREY)


def test_what_is_not_counted_is_no_class() -> None:
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[5:10, 5:10], mask[20:30, 20:30] = 255, 3
    picture = outlined(GREY, mask)
    assert len(np.unique(picture[5:10, 5:10])) == 1
    mask[5:10, 5:10] = 0
    plain = outlined(GREY, mask)
    plain[5:10, 5:10] = picture[5:10, 5:10]
    assert np.array_equal(picture, plain)


def test_first_classes_have_colours_of_their_own() -> None:
    assert len(np.unique(class_colours(np.arange(1, 8)), axis=0)) == 7
    assert class_colours(np.uint8(254)).shape == (3,)


def test_the_caption_hides_as_little_as_it_can() -> None:
    picture = np.full((300, 400, 3), 200, dtype=np.uint8)
    mask = np.ones((300, 400), dtype=np.uint8)
    mask[250:, 200:] = 0
    with_caption = captioned(picture, mask, [(1, "dog: share 93 %")])
    assert (with_caption != picture).any(axis=2).sum() > 500
    assert not (with_caption != picture).any(axis=2)[mask == 1].any()
    assert (picture == 200).all() and with_caption.shape == picture.shape


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (12, 12), (40, 4000)])
def test_pictures_without_room_have_no_caption(shape: tuple[int, int]) -> None:
    picture = np.zeros((*shape, 3), dtype=np.uint8)
    assert captioned(outlined(picture, picture[..., 0]), picture[..., 0], [(1, "a class")]).shape == picture.shape


def test_many_lines_are_counted() -> None:
    picture = np.zeros((400, 600, 3), dtype=np.uint8)
    few, many = (captioned(picture, picture[..., 0], [(n, "class") for n in range(1, n + 1)]) for n in (6, 200))
    assert np.flatnonzero(few.any(axis=(1, 2)))[-1] == np.flatnonzero(many.any(axis=(1, 2)))[-1]


@pytest.mark.parametrize("line", ["", "é ö ł Ω ж", "猫 🐱", "x\udcff", "a\nb\0", "w" * 100_000, "\u202e\u0301" * 50])
def test_any_text_can_be_drawn(line: str) -> None:
    bar = text_bar([line], 200, 14)
    assert bar.shape[1] == 200 and (bar[:, -4:] == 255).all()
    assert text_box([line, line], class_colours(np.array([1, 2])), 200, 14).shape[1] <= 200


@pytest.mark.parametrize("fonts", [captions._SYSTEM_FONTS, ()], ids=["system's", "none"])
def test_letters_with_accents_are_drawn(fonts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a font of the system, else as the letters alone: Pillow's own font has boxes for them."""
    monkeypatch.setattr(captions, "_SYSTEM_FONTS", fonts)
    drawn = {letter: text_bar([letter], 40, 14).tobytes() for letter in ("e", "é", "o", "ö", "猫", "?")}
    assert len(set(drawn.values())) >= 4
    assert drawn["é"] != drawn["ö"] and "猫" not in {letter for letter in drawn if drawn[letter] == drawn["é"]}
    assert fonts or (drawn["é"] == drawn["e"] and drawn["ö"] == drawn["o"])


def test_sheets_hold_every_picture() -> None:
    pictures = [np.full((20 + n, 90 - n, 3), 10 * n, dtype=np.uint8) for n in range(1, 8)]
    sheet = captioned_sheet(pictures, [[f"{n}", "line"] for n in range(7)], columns=3, side=76)
    table = contact_sheet([pictures[:3], pictures[3:6]], ["a", "b", "c"], 80, [["first"], ["left", "middle", "right"]])
    assert sheet.shape[1] == table.shape[1] == 240
    for n in range(1, 8):
        assert (sheet == 10 * n).all(axis=2).sum() > 1000
        assert n == 7 or (table == 10 * n).all(axis=2).sum() > 1000


def test_rows_of_sheets_are_as_high_as_their_pictures() -> None:
    wide, high = np.zeros((20, 80, 3), dtype=np.uint8), np.zeros((80, 40, 3), dtype=np.uint8)
    line = len(text_bar(["a"], 80, 14))
    assert len(captioned_sheet([wide, wide, wide, high, wide], [["a"]] * 5, columns=2, side=76)) == (
        3 * line + (19 + 4) + (76 + 4) + (19 + 4)
    )
    assert contact_sheet([[wide, wide], [wide, high]], ["a", "b"], 80).shape == (line + 19 + 4 + 80, 160, 3)
