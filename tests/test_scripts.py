"""The shell scripts: both shells read them, any working directory will do, mistakes end in one line."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from util.config import experiments
from util.files import PROJECT

SCRIPTS = [
    script
    for folder in (".", "masks", "model", "tests", "util")
    for script in sorted((PROJECT / folder).rglob("*.sh") if folder != "." else PROJECT.glob("*.sh"))
]
SHELLS = [shell for shell in ("sh", "bash", "dash") if shutil.which(shell)]


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(argument) for argument in command], cwd=folder, capture_output=True, text=True, timeout=600
    )


def test_scripts_are_found() -> None:
    names = {str(script.relative_to(PROJECT)) for script in SCRIPTS}
    assert {
        "install.sh",
        "train.sh",
        "test.sh",
        "experiments.sh",
        "demo.sh",
        "masks/create.sh",
        "tests/run.sh",
    } <= names


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("script", [*SCRIPTS, PROJECT / ".ci" / "run"], ids=lambda path: str(path.relative_to(PROJECT)))
def test_syntax(shell: str, script: Path) -> None:
    done = run(shell, "-n", script, folder=PROJECT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_unknown_experiment_lists_those_that_exist(tmp_path: Path) -> None:
    done = run("sh", PROJECT / "test.sh", "pascal", "split9_resnet50", folder=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert all(name in done.stderr for name in experiments("pascal"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_working_directory_makes_no_difference(tmp_path: Path) -> None:
    """A relative path to the script, a space in the folder's name, and modules there that have names of ours."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    for name in ("util", "engine", "yaml"):
        (folder / f"{name}.py").write_text("raise SystemExit(99)")
    (tmp_path / "project").symlink_to(PROJECT)
    done = run("bash", "../project/train.sh", "nothing", "at_all", folder=folder)
    assert done.returncode == 2
    assert "no dataset 'nothing'" in done.stderr


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("script", ["train.sh", "test.sh", "masks/create.sh"])
def test_a_signal_while_modules_are_imported(tmp_path: Path, script: str, number: str, code: int) -> None:
    """Ctrl-C and TERM, from within the import of a torch that stands in for the real one."""
    module = f"import os, signal, time\nos.kill(os.getpid(), signal.{number})\ntime.sleep(60)"
    (tmp_path / "torch.py").write_text(module)
    (tmp_path / "shapes").mkdir()
    words = [tmp_path, "shapes"] if script == "masks/create.sh" else ["shapes", "ssl_demo"]
    done = run("env", f"PYTHONPATH={tmp_path}", "sh", PROJECT / script, *words, folder=tmp_path)
    line = "interrupted: nothing was begun; the same command starts it\n"
    assert (done.returncode, done.stdout, done.stderr) == (code, "", line)


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_after_the_last_line(tmp_path: Path, number: str) -> None:
    """A process takes a moment to end; it has nothing to say any more."""
    (tmp_path / "command.py").write_text(
        "import atexit, os, signal\n"
        f"atexit.register(os.kill, os.getpid(), signal.{number})\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "print('done', flush=True)"
    )
    done = run(sys.executable, PROJECT / "util" / "launch.py", tmp_path / "command.py", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (-getattr(signal, number), "done\n", "")


def test_a_python_without_torch(tmp_path: Path) -> None:
    for name in ("util/python.sh", "util/launch.py", "train.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)
    bare = tmp_path / ".venv" / "bin" / "python"
    bare.parent.mkdir(parents=True)
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    done = run("sh", tmp_path / "train.sh", "shapes", "ssl_demo", folder=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(rf"error: \S+ has no torch: run bash {tmp_path}/install.sh\n", done.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pyton", "x"], "unknown option '--pyton'"),
        (["--python"], "needs the path"),
        (["--python", "/no/such/python"], "not a Python 3.10 or later"),
    ],
)
def test_install_refuses_what_it_cannot_use(tmp_path: Path, arguments: list[str], message: str) -> None:
    shutil.copy(PROJECT / "install.sh", tmp_path)
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    done = run("sh", tmp_path / "install.sh", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_install_reports_when_there_is_no_python(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "dirname"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    shutil.copy(PROJECT / "install.sh", tmp_path)
    done = run("env", f"PATH={tools}", "sh", tmp_path / "install.sh", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no Python 3.10 or later found")
