"""Lists: what is read is what was written, and every fault names its line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from episodes.lists import ListLine, read_list, scan_list, write_list
from util.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.jpg", "b.png", "a.png", "my photo.jpg", "my photo.png"):
        (tmp_path / name).touch()
    return tmp_path


def _read(root: Path, text: str, *, need_labels: bool = True) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    (root / "list.txt").write_text(text, encoding="utf-8")
    images = read_list(root / "list.txt", root, need_labels=need_labels)
    return images.images, images.labels


def test_digest_is_the_sha256_of_the_sorted_ids(root: Path) -> None:
    write_list(root / "list.txt", [("b.jpg", "b.png"), ("a.jpg", "a.png")])
    images = read_list(root / "list.txt", root, need_labels=True)
    assert images.digest == hashlib.sha256(b"a\nb\n").hexdigest()
    assert images.images == ("b.jpg", "a.jpg")
    assert images.image_path(1) == root / "a.jpg"
    assert images.label_path(0) == root / "b.png"
    assert len(images) == 2


def test_names_with_blanks_survive(root: Path) -> None:
    pairs: list[tuple[str, str | None]] = [("my photo.jpg", "my photo.png"), ("a.jpg", "a.png")]
    write_list(root / "list.txt", pairs)
    images = read_list(root / "list.txt", root, need_labels=True)
    assert list(zip(images.images, images.labels, strict=True)) == pairs
    write_list(root / "list.txt", [("my photo.jpg", None)])
    assert read_list(root / "list.txt", root, need_labels=False).images == ("my photo.jpg",)


def test_blank_lines_byte_order_mark_and_windows_line_ends_are_read(root: Path) -> None:
    assert _read(root, "\ufeffa.jpg a.png\r\n\r\nb.jpg b.png\r\n") == (("a.jpg", "b.jpg"), ("a.png", "b.png"))


def test_labels_are_not_looked_at_unless_needed(root: Path) -> None:
    assert _read(root, "a.jpg nowhere.png\nb.jpg\n", need_labels=False) == (("a.jpg", "b.jpg"), ("nowhere.png", None))


def test_a_repeated_line_is_left_out(root: Path) -> None:
    assert _read(root, "a.jpg a.png\nb.jpg b.png\na.jpg a.png\n")[0] == ("a.jpg", "b.jpg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg a.png\nc.jpg b.png\n", r"line 2: image .*c\.jpg not found"),
        ("a.jpg a.png\n\nb.jpg c.png\n", r"line 3: label .*c\.png not found"),
        ("a.jpg\n", r"line 1: no label after a\.jpg"),
        ("a.jpg a.png 3\n", "line 1: expected 'IMAGE LABEL', found 3 fields"),
        ("a.jpg a.png\nother/a.jpg a.png\n", r"line 2: other/a\.jpg has the same file name as a\.jpg on line 1"),
        ("\n  \n", "the list is empty"),
    ],
)
def test_faults_name_list_line_and_file(root: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        _read(root, text)
    assert str(caught.value).startswith(str(root / "list.txt"))
    assert "\n" not in str(caught.value)


def test_a_scan_goes_on_after_a_mistake_and_looks_at_no_file(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.jpg a.png\na b c\n\nother/a.jpg\na.jpg a.png\nb.jpg\n")
    lines = list(scan_list(path))
    assert [line for line in lines if isinstance(line, ListLine)] == [
        (f"{path}, line 1", "a.jpg", "a.png", None),
        (f"{path}, line 5", "a.jpg", "a.png", 1),
        (f"{path}, line 6", "b.jpg", None, None),
    ]
    mistakes = [str(line) for line in lines if isinstance(line, UserError)]
    assert mistakes[0].startswith(f"{path}, line 2: expected 'IMAGE LABEL'")
    assert mistakes[1] == f"{path}, line 4: other/a.jpg has the same file name as a.jpg on line 1; rename one of them"
    assert len(mistakes) == 2


def test_a_missing_list_says_how_to_make_it(root: Path) -> None:
    with pytest.raises(UserError, match=r"none\.txt: list not found; `python -m prepare`"):
        read_list(root / "none.txt", root, need_labels=False)


def test_a_list_without_labels_refuses_to_give_one(root: Path) -> None:
    write_list(root / "list.txt", [("a.jpg", None)])
    with pytest.raises(UserError, match=r"a\.jpg has no label"):
        read_list(root / "list.txt", root, need_labels=False).label_path(0)
