"""util.native: real builds of the operators, with CUDA, without, and on machines that cannot build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from util import operators
from util.errors import UserError
from util.files import PROJECT

FOLDERS = ("model/ops", "model/clusterutils", "masks/superpixels")
NO_TOOLKIT = "no CUDA toolkit found" if torch.version.cuda else "this torch has no CUDA"
# What the scripts call, found where it lies; no compiler among it.
TOOLS = ("sh", "bash", "dirname", "cat", "env", "git", "uv", "getconf", "mktemp", "rm", "cp")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what a build needs, with nothing built."""
    copy = tmp_path / "project"
    for folder in ("util", "model", "masks"):
        shutil.copytree(PROJECT / folder, copy / folder, ignore=shutil.ignore_patterns("build", "__pycache__"))
    (copy / ".venv").symlink_to(sys.prefix)
    return copy


@pytest.fixture
def no_compiler(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH holds what the scripts call and no compiler."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        if program := shutil.which(tool):
            (folder / tool).symlink_to(program)
    return {**os.environ, "PATH": str(folder), "CUDA_HOME": ""}


@pytest.mark.slow
def test_all_folders_build_without_cuda(project: Path) -> None:
    environment = {**os.environ, "CUDA_HOME": ""}
    done = build_all(project, environment)
    assert done.returncode == 0, done.stderr
    lines = iter(done.stdout.splitlines())
    for folder in FOLDERS:
        assert next(lines).startswith(f"{folder} for CPU: built in")
        if list((project / folder).glob("*.cu")):
            assert next(lines) == f"{folder} for CUDA: {NO_TOOLKIT}"
    assert not list(lines)
    for folder in FOLDERS:
        assert make(project, folder, environment).stdout.startswith(f"{folder} for CPU: built already")
    assert backends(project) == "cpu / cpu / cpu"
    assert backends(project, UNSUPFSS_OPS="reference") == "reference / reference / reference"
    (project / "model/clusterutils/clusterutils_cpu.cpp").open("a").write("// another source\n")
    assert backends(project) == "cpu / reference / cpu"


@pytest.mark.slow
@pytest.mark.skipif(
    torch.version.cuda is None or not shutil.which("nvcc"), reason="no CUDA toolkit, or torch without CUDA"
)
def test_both_folders_build_with_cuda(project: Path) -> None:
    for folder in ("model/ops", "model/clusterutils"):
        done = make(project, folder, {**os.environ, "TORCH_CUDA_ARCH_LIST": "9.0"})
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[1].startswith(f"{folder} for CUDA: built in")
    assert backends(project) == "cpu, cuda / cpu, cuda / reference"


@pytest.mark.slow
def test_a_machine_without_compiler_is_reported_in_one_line_and_works(
    project: Path, no_compiler: dict[str, str]
) -> None:
    done = make(project, "model/ops", no_compiler)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: model/ops for CPU could not be built: no C++ compiler (c++) on the PATH; "
        "install one (g++ or clang++) and run bash model/ops/make.sh again; without it everything works, slower"
    ]
    assert backends(project) == "reference / reference / reference"


@pytest.mark.slow
def test_installing_survives_a_machine_without_compiler(project: Path, no_compiler: dict[str, str]) -> None:
    for name in ("install.sh", "pyproject.toml"):
        shutil.copy(PROJECT / name, project / name)
    done = subprocess.run(["bash", "install.sh"], cwd=project, env=no_compiler, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no C++ compiler") == 3
    assert done.stdout.count("PyTorch reference") == 2
    assert done.stdout.count("scikit-image reference") == 1


@pytest.mark.slow
def test_a_build_that_fails_names_the_error_and_the_log(project: Path) -> None:
    source = project / "model/ops/deform_attn_cpu.cpp"
    source.write_text("#error nothing of this compiles\n")
    done = make(project, "model/ops", {**os.environ, "CUDA_HOME": ""})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "deform_attn_cpu.cpp:1:2: error: #error nothing of this compiles; see " in line
    assert "deform_attn_cpu.log, fix it and run bash model/ops/make.sh again" in line
    assert "#error" in (project / "model/ops/build/deform_attn_cpu.log").read_text()
    assert backends(project) == "reference / reference / reference"


@pytest.mark.slow
def test_a_library_that_does_not_load_leaves_the_reference(project: Path) -> None:
    make(project, "model/clusterutils", {**os.environ, "CUDA_HOME": ""})
    (library,) = (project / "model/clusterutils/build").glob("*.so")
    library.write_bytes(b"cut off")
    program = "import model.clusterutils as c, util.operators as o; print(c.backend(), o.backends()['clustering'])"
    done = subprocess.run([sys.executable, "-c", program], cwd=project, capture_output=True, text=True)
    assert done.stdout.strip() == "reference PyTorch reference"
    assert done.stderr.startswith(f"{library} does not load (")
    assert "delete it and run bash model/clusterutils/make.sh" in done.stderr


def test_a_folder_without_operators_is_named(project: Path) -> None:
    command = [sys.executable, "-m", "util.native", "util"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"util holds no native operators: expected {', '.join(FOLDERS)}" in done.stderr


def test_a_choice_that_means_nothing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSUPFSS_OPS", "fast")
    with pytest.raises(UserError, match="UNSUPFSS_OPS=fast: expected 'reference'"):
        operators.backends()


def test_the_toolkit_is_found_behind_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = (torch.version.cuda or "13.0").split(".")[0]
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(
        "#!/bin/sh\n"
        f"[ $1 = --version ] && echo 'release {cuda}.0, V{cuda}.0.1' || echo '#$ TOP=/opt/toolkit/bin/..' >&2\n"
    )
    nvcc.chmod(0o755)
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(torch.version, "cuda", f"{cuda}.2")
    assert operators.cuda_home() == Path("/opt/toolkit")
    monkeypatch.setattr(torch.version, "cuda", "99.0")
    with pytest.raises(operators.BuildError, match=rf"is CUDA {cuda}, torch's is 99.0"):
        operators.cuda_home()
    monkeypatch.setenv("CUDA_HOME", "")
    assert operators.cuda_home() is None
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "none"))
    with pytest.raises(operators.BuildError, match="does not run"):
        operators.cuda_home()


def make(project: Path, folder: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(project / folder / "make.sh")], env=environment, capture_output=True, text=True)


def build_all(project: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "util.native"]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


def backends(project: Path, **environment: str) -> str:
    """What a Python started in the project has loaded, of all folders, after calling one operator of each."""
    program = (
        "import numpy, torch, masks.superpixels as s, model.clusterutils as c, model.ops as o;"
        "c.lsh_hash(torch.ones(2, 3), torch.ones(4, 4));"
        "location = torch.ones(1, 1, 1, 1, 1, 2);"
        "o.deform_attn(torch.ones(1, 1, 1, 1), torch.ones(1, 2).long(), location, location[..., 0]);"
        "s.felzenszwalb(numpy.zeros((2, 3, 3), numpy.uint8));"
        "print(o.backend(), '/', c.backend(), '/', s.backend())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
