"""The command, with runs that are shell scripts: one run of the plan, exit codes, one command at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from commands.experiments.__main__ import main
from commands.experiments.runs import Run
from tests.commands.experiments.small_study import run
from util.errors import run_command

pytest_plugins = ["tests.workspace"]


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command line whose plan has three runs, of which the second fails at first and the third needs both."""
    runs: list[Run] = [
        run(tmp_path, "first"),
        run(tmp_path, "second", "echo no mend; test -e ../mended && touch product"),
        run(tmp_path, "third", "touch product", "first", "second"),
    ]
    monkeypatch.setattr("commands.experiments.__main__.all_runs", lambda study: runs)
    (tmp_path / "list.txt").touch()
    lists = [f"DATA.{name}_list={tmp_path}/list.txt" for name in ("train", "val")]
    return ["pascal", "resnet50", "--output", str(tmp_path / "out"), *lists]


def exit_code(words: list[str]) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        run_command(main, words)
    return stop.value.code


def test_a_failure_is_named_at_the_end_and_mended_by_the_same_command(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(words) == 1
    said = capsys.readouterr().err
    assert re.search(r"FAILED: second: no mend\n\S+ left out, for they need these: third\n$", said)
    assert (tmp_path / "first" / "product").exists() and (tmp_path / "out" / "pascal_resnet50.md").is_file()
    (tmp_path / "mended").touch()
    main(words)
    said = capsys.readouterr().err
    assert "3 runs, of which 1 are finished" in said
    assert re.findall(r"run (\d), \w+: done", said) == ["2", "3"]


def test_one_run_of_the_plan(words: list[str], tmp_path: Path, fails: Callable[..., str]) -> None:
    main([*words, "--index", "1"])
    assert [(tmp_path / name / "product").exists() for name in ("first", "second")] == [True, False]
    assert fails(main, [*words, "--index", "3"]) == "error: run 3, third: needs second, not finished yet"
    assert exit_code([*words, "--index", "2"]) == 1
    (tmp_path / "mended").touch()
    for number in ("2", "3", "1"):
        main([*words, "--index", number])
    assert (tmp_path / "third" / "product").exists()


def test_a_plan_starts_and_writes_nothing(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*words, "--plan", "--jobs", "2"])
    assert "3 runs, 0 done; 3 to do: 0.0 hours of computing" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"]
