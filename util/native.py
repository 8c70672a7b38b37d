"""Native operators: building them with a C++ compiler and a CUDA toolkit, and loading what was built.

    python -m util.native                 builds all operators
    python -m util.native model/ops       what model/ops/make.sh does

A folder of operators holds ``*_cpu.cpp``, ``*_cuda.cu`` where there is a version for GPUs, and a reference in Python
that is used where a build is missing. Each source becomes a shared library in ``build/``, named after all it depends
on: the sources, torch's version and, for the CPU, its vector instructions. So a library built from other sources or
for another torch or processor is not loaded, and machines that share the folder keep separate builds.

``CUDA_HOME`` names the toolkit; empty, none is used. ``TORCH_CUDA_ARCH_LIST`` names the architectures.
``UNSUPFSS_OPS=reference`` loads nothing.
"""

from __future__ import annotations

from pathlib import Path

from util.arguments import Parser
from util.errors import UserError, importing, run_command
from util.files import PROJECT

FOLDERS = {
    "deformable attention": PROJECT / "model/ops",
    "clustering": PROJECT / "model/clusterutils",
    "superpixels": PROJECT / "masks/superpixels",
}


def main(arguments: list[str]) -> None:
    """Build the operators of the folders named, or of all. Raises ``UserError`` when one could not be built."""
    parser = Parser(prog="python -m util.native", description="Build the native operators.")
    parser.add_argument("folders", nargs="*", default=[], type=Path, metavar="FOLDER", help="all where none is named")
    folders = [folder.resolve() for folder in parser.parse_args(arguments).folders] or list(FOLDERS.values())
    for folder in folders:
        if folder not in FOLDERS.values():
            known = ", ".join(str(path.relative_to(PROJECT)) for path in FOLDERS.values())
            raise UserError(f"{folder} holds no native operators: expected {known}")
    with importing():
        from util.operators import build
    failures = [failure for folder in folders if (failure := build(folder)) is not None]
    if failures:
        raise UserError("; ".join(failures))


if __name__ == "__main__":
    run_command(main)
