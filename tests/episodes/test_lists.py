"""Lists: what is read is what was written, and every fault names its line."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from episodes.lists import ListLine, read_list, scan_list, write_list
from util.errors import UserError
from util.files import digest_lines
from util.logging import start_logging


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


def test_unlabelled_images_are_left_out_on_demand(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_logging()
    path = root / "list.txt"
    path.write_text("b.jpg\na.jpg a.png\n")
    images = read_list(path, root, need_labels=True, leave_out_unlabelled=True)
    assert (images.images, images.labels) == (("a.jpg",), ("a.png",))
    write_list(root / "labelled.txt", [("a.jpg", "a.png")])
    assert images.digest == read_list(root / "labelled.txt", root, need_labels=True).digest
    assert f"{path}: 1 of 2 images have labels" in capsys.readouterr().err
    for text, message in [
        ("a.jpg\nb.jpg\n", "none of its 2 images has a label; expected one 'IMAGE LABEL' per line, for some images"),
        ("b.jpg b.png\na.jpg,a.png\n", "line 2: image .* not found; separate the names"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_list(path, root, need_labels=True, leave_out_unlabelled=True)


def test_a_repeated_line_is_left_out(root: Path) -> None:
    assert _read(root, "a.jpg a.png\nb.jpg b.png\na.jpg a.png\n")[0] == ("a.jpg", "b.jpg")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("JPEGImages/{}.jpg", "SegmentationClassAug/{}.png"),
        ("train2014/COCO_train2014_{}.jpg", "annotations/train2014/COCO_train2014_{}.png"),
        ("val2014/COCO_val2014_{}.jpg", "annotations/val2014/COCO_val2014_{}.png"),
    ],
)
def test_the_lists_of_the_published_code_work_as_they_are(tmp_path: Path, image: str, label: str) -> None:
    """train.txt with train_5.txt, train_10.txt and train_20.txt beside it, for data in the same layout."""
    pairs = [(image.format(number), label.format(number)) for number in ("2007_000032", "2007_000039", "2008_000008")]
    for name in (name for pair in pairs for name in pair):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for list_name, count in (("train", 3), ("train_20", 2), ("train_10", 1), ("train_5", 1)):
        path = tmp_path / "lists" / f"{list_name}.txt"
        path.parent.mkdir(exist_ok=True)
        # The last line has no end in some of them.
        path.write_text("\n".join(" ".join(pair) for pair in pairs[:count]))
        images = read_list(path, tmp_path, need_labels=True)
        assert list(zip(images.images, images.labels, strict=True)) == pairs[:count]
        ids = [Path(name).stem for name, _ in pairs[:count]]
        assert images.digest == digest_lines(ids)


def test_slashes_as_other_lists_and_systems_write_them(root: Path) -> None:
    (root / "sub").mkdir()
    for name in ("c.jpg", "c.png"):
        (root / "sub" / name).touch()
    text = "/a.jpg /a.png\n\\b.jpg b.png\nsub\\c.jpg\t/sub\\c.png\n"
    expected = (("a.jpg", "b.jpg", "sub/c.jpg"), ("a.png", "b.png", "sub/c.png"))
    assert _read(root, text) == expected
    assert _read(root, text.replace("png", "jpeg"), need_labels=False)[1] == ("a.jpeg", "b.jpeg", "sub/c.jpeg")


def test_paths_that_lead_elsewhere_are_read_as_they_are(root: Path) -> None:
    (root / "data").mkdir()
    (root / "data" / "odd\\name.jpg").touch()
    (root / "list.txt").write_text(f"{root / 'a.jpg'} ../a.png\nodd\\name.jpg ../b.png")
    images = read_list(root / "list.txt", root / "data", need_labels=True)
    assert images.images == (str(root / "a.jpg"), "odd\\name.jpg")
    assert images.label_path(0).samefile(root / "a.png") and images.image_path(0) == root / "a.jpg"


def test_comments_are_left_out(root: Path) -> None:
    (root / "#1.jpg").touch()
    text = f"# my images\n#\n  # IMAGE LABEL\na.jpg a.png\n#1.jpg b.png\n{' ' * 10**6}\n"
    assert _read(root, text) == (("a.jpg", "#1.jpg"), ("a.png", "b.png"))


def test_a_label_of_several_images_is_a_warning(root: Path, messages: list[str]) -> None:
    text = "a.jpg a.png\nb.jpg a.png\nmy photo.jpg\tmy photo.png\n"
    assert _read(root, text)[1] == ("a.png", "a.png", "my photo.png")
    assert messages == [
        f"{root / 'list.txt'}: 2 images have the label of another, such as a.png, which is that of 2; each image "
        "should have its own"
    ]


@pytest.mark.parametrize(
    "name", ["a\tb.jpg", " a.jpg", "a\nb.jpg", "a\u2028b.jpg", "# a.jpg", "#\u00a0a.jpg", "", "caf\udce9.jpg"]
)
def test_names_that_a_list_cannot_hold_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        UserError, match=r"list\.txt: ('.*' would be read as something else; rename|a name is not UTF-8)"
    ):
        write_list(tmp_path / "list.txt", [("a.jpg", "a.png"), (name, "b.png")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg a.png\nc.jpg b.png\n", r"line 2: image .*c\.jpg not found"),
        ("a.jpg a.png\n\nb.jpg c.png\n", r"line 3: label .*c\.png not found"),
        ("a.jpg\n", r"line 1: no label after a\.jpg"),
        ("a.jpg a.png 3\n", "line 1: expected 'IMAGE LABEL', found 3 fields"),
        ("a.jpg a.png\nother/a.jpg a.png\n", r"line 2: other/a\.jpg has the same file name as a\.jpg on line 1"),
        ("\n  \n# nothing\n", "the list is empty"),
        (
            "a.jpg,a.png\n",
            r"line 1: image .*a\.jpg,a\.png not found; separate the names with a space or a tab",
        ),
        ("a.jpg, a.png\n", "line 1: image .* not found; separate the names with a space"),
        ("a.jpg a.png,\n", "line 1: label .* not found; separate the names with a space"),
        ("#IMAGE LABEL\na.jpg a.png\n", "line 1: image .* not found; begin a comment with '# '"),
        ("a.jpg a.png # good\n", "line 1: expected 'IMAGE LABEL', found 4 fields; .* a comment on a line of its own"),
        (
            "a.jpg a.png\na.jpg b.png\n",
            r"line 2: the label of a\.jpg is b\.png here and a\.png on line 1; remove",
        ),
        ("a.jpg a.png\n" + "x" * 10**6, "line 2: a name of 1,000,000 characters; expected one 'IMAGE LABEL' per line"),
        ("/ a.png\n", "line 1: image .* not found"),
        ("a.jpg a\0.png\n", "line 1: label .* not found"),
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
    lines = list(scan_list(path, tmp_path))
    assert [line for line in lines if isinstance(line, ListLine)] == [
        (f"{path}, line 1", "a.jpg", "a.png", None),
        (f"{path}, line 5", "a.jpg", "a.png", 1),
        (f"{path}, line 6", "b.jpg", None, None),
    ]
    mistakes = [str(line) for line in lines if isinstance(line, UserError)]
    assert mistakes[0].startswith(f"{path}, line 2: expected 'IMAGE LABEL'")
    assert mistakes[1] == f"{path}, line 4: other/a.jpg has the same file name as a.jpg on line 1; rename one of them"
    assert len(mistakes) == 2


def test_a_list_that_is_no_text_file(root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "binary").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name, message in ((".", "list not found"), ("pipe", "list not found"), ("binary", "not a text file in UTF-8")):
        with pytest.raises(UserError, match=message):
            read_list(root / name, root, need_labels=False)


def test_a_missing_list_says_how_to_make_it(root: Path) -> None:
    with pytest.raises(UserError, match=r"none\.txt: list not found; `python -m prepare`"):
        read_list(root / "none.txt", root, need_labels=False)


def test_a_list_without_labels_refuses_to_give_one(root: Path) -> None:
    write_list(root / "list.txt", [("a.jpg", None)])
    with pytest.raises(UserError, match=r"a\.jpg has no label"):
        read_list(root / "list.txt", root, need_labels=False).label_path(0)
