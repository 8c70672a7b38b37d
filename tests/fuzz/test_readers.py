"""Damaged files, a bounded number for each reader: see docs/architecture.md, "Errors"."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz.__main__ import CORPUS
from tests.fuzz.mutations import Edit
from tests.fuzz.readers import READERS, build_reader
from tests.fuzz.reading import Reader, find_failure, read_one
from util.errors import UserError
from util.logging import logger

EXAMPLES = 300


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_refused_or_read_right(name: str, tmp_path: Path) -> None:
    reader = build_reader(name, tmp_path)
    failure = find_failure(reader, tmp_path, examples=EXAMPLES)
    assert failure is None, f"{failure[0][:500]!r}: {failure[1]!r}"


@pytest.mark.parametrize("name", READERS)
def test_sound_files_are_read(name: str, tmp_path: Path) -> None:
    reader = build_reader(name, tmp_path)
    for content in reader.seeds:
        (tmp_path / reader.name).write_bytes(content)
        reader.read(tmp_path / reader.name)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_that_broke_a_reader_once_are_refused_or_read_right(path: Path, tmp_path: Path) -> None:
    read_one(build_reader(path.parent.name, tmp_path), path.read_bytes(), tmp_path)


def test_a_reader_that_breaks_is_found_with_a_small_file(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        content = path.read_bytes()
        if not content:
            raise UserError(f"{path}: empty")
        assert b"\xff" not in content, "the defect"

    failure = find_failure(Reader("file", read, [b"sound"]), tmp_path, examples=EXAMPLES)
    assert failure is not None
    assert b"\xff" in failure[0] and len(failure[0]) < 10
    assert isinstance(failure[1], AssertionError)


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("_logging_as_before")
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fuzz.main(["--minutes", "0.0001", "images"])
    assert capsys.readouterr().out == "images: 500 files, no finding\n"
    broken = Reader("file", lambda path: path.read_text().encode("ascii"), [b"sound"])
    monkeypatch.setattr(fuzz, "build_reader", lambda *_: broken)
    monkeypatch.setattr(fuzz, "CORPUS", tmp_path)
    with pytest.raises(SystemExit) as stop:
        fuzz.main(["images", "--minutes", "5"])
    (kept,) = tmp_path.glob("images/*")
    assert stop.value.code == 1 and "UnicodeDecodeError" in capsys.readouterr().out
    assert not kept.read_bytes().isascii()


@pytest.mark.parametrize(
    ("edit", "result"),
    [
        (Edit("insert", 32768, 2, b"XY"), b"abXYcd"),
        (Edit("replace", 32768, 1, b"XY"), b"abXYd"),
        (Edit("overwrite", 0, 0, b"XY"), b"XYcd"),
        (Edit("flip a bit", 0, 1, b""), b"cbcd"),
        (Edit("repeat", 0, 2, b""), b"ababcd"),
        (Edit("cut", 49152, 0, b""), b"abc"),
        (Edit("flip a bit", 65536, 1, b""), b"abcd"),
    ],
)
def test_edits(edit: Edit, result: bytes) -> None:
    assert edit.apply(b"abcd") == result
