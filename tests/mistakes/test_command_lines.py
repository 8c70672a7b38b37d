"""Mistakes in a command line: every command reports them in one line and with exit code 2."""

from __future__ import annotations

import pytest

from tests.mistakes.world import COMMANDS, Main
from util.errors import run_command

# Without arguments the one builds all operators, the other answers the page.
NEED_ARGUMENTS = {name: main for name, main in COMMANDS.items() if name not in ("util.native", "web")}


def error_of(main: Main, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command writes to stderr when it fails with exit code 2: one line, no usage."""
    with pytest.raises(SystemExit) as stop:
        run_command(main, arguments)
    output = capsys.readouterr()
    assert stop.value.code == 2
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert len(output.err.splitlines()) == 1
    assert "usage:" not in output.err
    assert "key=value" not in output.err
    return output.err


@pytest.mark.parametrize("name", NEED_ARGUMENTS)
def test_no_arguments(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the following arguments are required: " in error_of(NEED_ARGUMENTS[name], [], capsys)


@pytest.mark.parametrize("name", COMMANDS)
def test_unknown_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    error_of(COMMANDS[name], ["--no-such-option"], capsys)


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run_command(COMMANDS[name], ["--help"])
    output = capsys.readouterr()
    assert (stop.value.code, output.err) == (0, "")
    assert output.out.startswith("usage: ")
    assert len(output.out.splitlines()) > 5


def test_torchrun_around_a_command_of_one_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = "error: predict.py: works in one process, not 2; start it without torchrun\n"
    arguments = ["--checkpoint", "c", "--support", "i", "m", "--query", "q"]
    assert error_of(COMMANDS["predict"], arguments, capsys) == message
