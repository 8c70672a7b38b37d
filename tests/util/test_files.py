"""util.files: whole files or none, digests, readable errors."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from util.errors import UserError
from util.files import (
    atomic_write,
    cache_folder,
    digest_file,
    digest_lines,
    link_or_copy,
    name_errors,
    read_json,
    read_lines,
    remove_left_overs,
    replace_json_line,
    write_bytes,
    write_json,
    write_text,
)


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "values.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_first_write_leaves_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "new" / "values.txt") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert list((tmp_path / "new").iterdir()) == []


def test_temporary_name_is_hidden_next_to_the_file_and_no_image_has_it(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "mask.png") as temporary:
        temporary.touch()
        assert temporary.parent == tmp_path
        assert temporary.name == f".mask.png.{os.getpid()}"
        assert not (tmp_path / "mask.png").exists()


def test_what_killed_writes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "mask.png") as temporary:
        # The last two belong to images called .image.jpg and .image.7.jpg.
        others = {"mask.png.2", ".mask.json.4711", ".mask.png.old", ".image.png", ".image.7.png"}
        for name in (temporary.name, ".other.png.4711", "..image.7.png.4711", *others):
            (tmp_path / name).touch()
        remove_left_overs(tmp_path, ".png")
        temporary.touch()
    assert {path.name for path in tmp_path.iterdir()} == {"mask.png", *others}


def test_errors_of_a_write_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError) as error, atomic_write(tmp_path / "image.png"):
        raise OSError(errno.ENOSPC, "full")
    assert error.value.filename == str(tmp_path / "image.png")
    with pytest.raises(OSError) as error, name_errors(tmp_path / "image.png"):
        raise OSError(errno.ENOSPC, "full", "another")
    assert error.value.filename == "another"


def test_links_are_replaced_and_copies_made_where_links_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source.txt", tmp_path / "new" / "target.txt"
    source.write_text("content")
    for _ in range(2):
        link_or_copy(source, target)
        assert target.is_symlink() and target.resolve() == source
    monkeypatch.setattr(Path, "symlink_to", _refuse)
    link_or_copy(source, target)
    assert not target.is_symlink() and target.read_text() == "content"


def _refuse(*_: object) -> None:
    raise OSError("no links on this disk")


def test_bytes_come_back(tmp_path: Path) -> None:
    write_bytes(tmp_path / "new" / "file", b"\x00\xff")
    assert (tmp_path / "new" / "file").read_bytes() == b"\x00\xff"
    assert digest_file(tmp_path / "new" / "file", "md5") == hashlib.md5(b"\x00\xff").hexdigest()


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"miou": 45.5, "classes": [1, 2], "weight": None}
    write_json(tmp_path / "results.json", value)
    assert read_json(tmp_path / "results.json") == value


@pytest.mark.parametrize("content", [None, "{", "{} {}", "\udc80", "[" * 100_000, "9" * 5000])
def test_bad_json_is_a_user_error_that_names_the_file(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"manifest\.json: (file not found|not valid JSON)"):
        read_json(path)


def test_json_of_windows_begins_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"pipe: file not found"):
        read_json(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"pipe: file not found; expected names"):
        read_lines(tmp_path / "pipe", "expected names")


@pytest.mark.parametrize("name", ["caf\udce9.jpg", "caf\ud800.jpg"])
def test_names_that_are_not_utf8(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"list\.txt: a name is not UTF-8 .* \('caf\\ud...'\); rename it"):
        write_text(tmp_path / "list.txt", f"a.jpg\n{name}\n")
    assert not (tmp_path / "list.txt").exists()
    assert digest_lines([name]) != digest_lines(["caf.jpg"])


def test_where_no_folder_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^/proc/none: no folder can be made here; choose another place"):
        write_text(Path("/proc/none/file"), "")


def test_a_json_line_replaces_that_of_its_epoch_and_later_ones(tmp_path: Path) -> None:
    path = tmp_path / "epochs.jsonl"
    for epoch, loss in ((0, 0.9), (2, 0.8), (4, 0.7), (2, 0.6)):
        replace_json_line(path, {"epoch": epoch, "loss": loss})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"epoch": 0, "loss": 0.9},
        {"epoch": 2, "loss": 0.6},
    ]


def test_a_line_that_is_no_record_is_left_out_and_named(tmp_path: Path, messages: list[str]) -> None:
    path = tmp_path / "epochs.jsonl"
    broken = [b"", b'{"epoch": 1', b"3", b"[1]", b'{"loss": 1}', b'{"epoch": "1"}', b"\xff", b"[" * 100_000]
    path.write_bytes(b"\n".join([b'{"epoch": 1}', *broken, b'{"epoch": 2}', b'{"epoch": 3}', b""]))
    replace_json_line(path, {"epoch": 3})
    assert path.read_text() == '{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3}\n'
    assert messages == [
        f"{path}, line {number}: left out, for it is not a record with a epoch" for number in range(2, 2 + len(broken))
    ]


def test_digest_of_lines_is_that_of_the_file_with_these_lines(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(b"2007_000032\n2007_000039\n")
    assert digest_lines(["2007_000032", "2007_000039"]) == digest_file(path)
    assert digest_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_digest_of_nothing() -> None:
    assert digest_lines([]) == hashlib.sha256(b"").hexdigest()


def test_cache_folder_is_made_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSUPFSS_CACHE", str(tmp_path / "a" / "b"))
    assert cache_folder() == tmp_path / "a" / "b"
    assert cache_folder().is_dir()
