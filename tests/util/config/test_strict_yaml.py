"""util.config.strict_yaml: text means one thing, and whatever is typed ends in a value or in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from util.config.strict_yaml import is_text, parse_yaml, read_yaml
from util.errors import UserError

VALUES: dict[str, object] = {
    "010": 10,
    "-5": -5,
    "+5": 5,
    " 5": 5,
    "9" * 30: int("9" * 30),
    "1e-4": 1e-4,
    "1.": 1.0,
    ".5": 0.5,
    "-1.5E+2": -150.0,
    "1e400": float("inf"),
    "true": True,
    "False": False,
    "TRUE": True,
    "": None,
    "~": None,
    "Null": None,
    "[0, 1]": [0, 1],
    "{a: 1}": {"a": 1},
    "'010'": "010",
    '"true"': "true",
    "timm:resnet18": "timm:resnet18",
    "tcp://127.0.0.1:6789": "tcp://127.0.0.1:6789",
}


@pytest.mark.parametrize(("text", "value"), VALUES.items())
def test_values(text: str, value: object) -> None:
    assert parse_yaml(text) == value
    assert type(parse_yaml(text)) is type(value)


TEXTS = """
0x10 0o17 0b11 1_000 1:30 190:20:30 .inf -.inf .nan inf nan 1e e5 . yes No on OFF y tRUE 2001-01-01 2001-99-99 = << 0x
١٢ ²
"""


@pytest.mark.parametrize("text", [*TEXTS.split(), "1 2", "2001-01-01 10:00:00"])
def test_everything_else_is_text(text: str) -> None:
    assert parse_yaml(text) == text


NO_TAGS, TOO_DEEP, TWICE = "tags, anchors and aliases are not read", "nested more than 20", "'a' occurs twice"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!int x", NO_TAGS),
        ("!!timestamp x", NO_TAGS),
        ("!!python/name:os.system", NO_TAGS),
        ("! x", NO_TAGS),
        ("!a {}", NO_TAGS),
        ("&a [1]", NO_TAGS),
        ("[&a 1, *a]", NO_TAGS),
        ("[" * 5000, TOO_DEEP),
        ("[" * 30 + "]" * 30, TOO_DEEP),
        ("- " * 2000, TOO_DEEP),
        ("{a: 1, a: 2}", TWICE),
        ("a: 1\nb: 2\na: 3", TWICE),
        ("{1: 2}", "must be words"),
        ("true: 1", "must be words"),
        ("? [a]\n: 1", "must be words"),
        ("?\n: 1", "must be words"),
        ('"\\0"', "no text"),
        ('"\\ud800"', "no text"),
        ('{"\\0": 1}', "no text"),
        ("a\0b", "not allowed"),
        ('"\\U00110000"', r"chr\(\)"),
        ("%YAML " + "9" * 5000 + ".1", "digits"),
        ("--- 1\n--- 2", "single document"),
        ("{", "expected"),
        ("a: b: c", "mapping values"),
        ("\t- a", "cannot start any token"),
        ("*", "alias"),
    ],
)
def test_no_yaml_of_ours_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300


def test_numbers_beyond_all_bounds_stay_numbers_or_text() -> None:
    """Python refuses to read whole numbers of more than 4,300 digits."""
    assert parse_yaml("9" * 5000) == float("inf")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_file_with_or_without_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.yaml").write_text("DATA: {data_root: Bäume}", encoding=encoding)
    assert read_yaml(tmp_path / "a.yaml") == {"DATA": {"data_root": "Bäume"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "not valid YAML"),
        (b"a: \xff", "not valid YAML"),
        (b"a: b\0", "not valid YAML"),
        (b"\xff\xfe\xff", "not valid YAML"),
        (b"a: [", "not valid YAML"),
        (b"#" * 100_001, "larger than 100,000 bytes"),
    ],
)
def test_file_that_is_no_yaml_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(UserError, match=rf"/a\.yaml: {message}") as caught:
        read_yaml(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


def test_path_that_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a file"):
        read_yaml(tmp_path)
    with pytest.raises(UserError, match="not a file"):
        read_yaml(Path("/dev/zero"))
    with pytest.raises(UserError, match=r"absent\.yaml: configuration file not found"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match=r"cannot be read \(File name too long\)"):
        read_yaml(tmp_path / ("a" * 5000))
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    with pytest.raises(UserError, match=r"loop\.yaml: "):
        read_yaml(tmp_path / "loop.yaml")


def test_text() -> None:
    assert is_text("") and is_text("Bäume 🌳 \n")
    assert not is_text("a\0") and not is_text("\udcff")
