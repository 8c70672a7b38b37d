"""util.environment: the description that run folders and checkpoints keep."""

import platform
import re
from pathlib import Path

import pytest
import torch

from util import environment
from util.environment import describe_environment, git_commit


def test_description_is_printable_and_true() -> None:
    description = describe_environment()
    assert description["python"] == platform.python_version()
    assert description["torch"] == torch.__version__.split("+")[0]
    assert all(isinstance(value, str) and value for value in description.values())
    assert "missing" not in description.values()


def test_commit_is_a_hash_or_unknown() -> None:
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", git_commit())


def test_commit_is_not_that_of_a_repository_around_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PROJECT", environment.PROJECT / "tests")
    assert git_commit() == "unknown"
    monkeypatch.setattr(environment, "PROJECT", tmp_path)
    assert git_commit() == "unknown"


def test_summary_says_what_each_operator_runs_on(capsys: pytest.CaptureFixture[str]) -> None:
    environment.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[:2]] == ["python", "torch"]
    for operator in ("deformable attention", "clustering"):
        assert any(re.match(rf"{operator} +(PyTorch reference|native \(CPU(, CUDA)?\))", line) for line in lines)
    assert any(re.match(r"superpixels +(scikit-image reference|native \(CPU\))$", line) for line in lines)
