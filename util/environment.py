"""The environment of a run: versions, git commit and device, for run folders, checkpoints and ``install.sh``."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata

import torch

from util import operators
from util.files import PROJECT

_PACKAGES = ("torch", "torchvision", "timm", "numpy")


def main() -> None:
    """Print versions, device, and which operators run natively: the last thing ``install.sh`` does."""
    rows = describe_environment()
    width = max(len(name) for name in rows)
    sys.stdout.writelines(f"{name:<{width}}  {value}\n" for name, value in rows.items())


def describe_environment() -> dict[str, str]:
    """Versions of Python and the main packages, git commit, device, backends of the operators.

    Values are ``missing`` or ``unknown`` where they cannot be determined.
    """
    versions = {name: _version(name) for name in _PACKAGES}
    origin = {"commit": git_commit(), "device": device_name()}
    return {"python": platform.python_version(), **versions, **origin, **operators.backends()}


def git_commit() -> str:
    """The project's commit, with ``-dirty`` when tracked files have changes; ``unknown`` outside a repository."""
    repository = ["git", "-C", str(PROJECT), f"--git-dir={PROJECT / '.git'}"]
    command = [*repository, "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def device_name() -> str:
    """The GPUs torch can use, or the CPU with the cores this process may use."""
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"CPU ({platform.machine()}, {cores} cores)"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


if __name__ == "__main__":
    main()
