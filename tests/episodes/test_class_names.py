"""Names of classes in files: what is read, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from episodes.class_names import dataset_names, read_class_names, write_dataset_names
from util.errors import UserError


def test_names_come_back_by_class(tmp_path: Path) -> None:
    assert dataset_names(tmp_path) == {}
    write_dataset_names(tmp_path, ["traffic light", "Zebra", "\u00e9l\u00e9phant"])
    assert dataset_names(tmp_path) == {1: "traffic light", 2: "Zebra", 3: "\u00e9l\u00e9phant"}


def test_blanks_around_and_between_names(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(b"\xef\xbb\xbf cat \r\n\r\ntraffic \t light\r\n")
    assert read_class_names(path) == ("cat", "traffic light")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"cat\ndog\n cat\n", "classes 1 and 3 are both called 'cat'"),
        (b"\n \n", "no class in it; expected 1 to 254"),
        (b"".join(b"class%d\n" % number for number in range(255)), "255 classes; masks have room for 254"),
        (b"\xff\xfe", "not a text file in UTF-8"),
    ],
)
def test_bad_names_are_one_line(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(text)
    with pytest.raises(UserError, match=rf"names\.txt: {message}") as error:
        read_class_names(path)
    assert "\n" not in str(error.value)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.txt"):
        with pytest.raises(UserError, match="file not found; expected the name of a class on each line"):
            read_class_names(path)
