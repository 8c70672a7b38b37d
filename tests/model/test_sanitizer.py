"""The GPU's kernels under NVIDIA's compute-sanitizer, where there are a GPU and the tool."""

import shutil
import subprocess
import sys

import pytest

from util.files import PROJECT


@pytest.mark.gpu
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_kernels_are_clean_under(tool: str) -> None:
    if shutil.which("compute-sanitizer") is None:
        pytest.skip("needs compute-sanitizer on the PATH")
    tests = ["tests/model/test_ops.py", "tests/model/test_clusterutils.py", "-p", "no:xdist", "-k", "a_gpu_agrees"]
    sanitizer = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", "--target-processes", "all"]
    done = subprocess.run(
        [*sanitizer, sys.executable, "-m", "pytest", *tests], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:]
