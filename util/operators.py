"""Native operators: loading what was built, and building with a C++ compiler and a CUDA toolkit (``util.native``)."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from util.errors import UserError
from util.files import PROJECT, write_text
from util.native import FOLDERS

# The library whose code is used where an operator is not built; PyTorch for the others.
_REFERENCES = {"superpixels": "scikit-image"}
# The source that is compiled for a device, then those it includes.
DEVICES = {"cpu": ["*_cpu.cpp"], "cuda": ["*_cuda.cu", "*_kernels.cuh"]}
# Turing, Ampere and Hopper, and code that the driver of a newer GPU translates.
DEFAULT_ARCHITECTURES = "7.5;8.0;9.0+PTX"
_VECTOR_FLAGS = {
    "AVX2": ["-DCPU_CAPABILITY=AVX2", "-DCPU_CAPABILITY_AVX2", "-mavx2", "-mfma", "-mf16c"],
    "AVX512": [
        "-DCPU_CAPABILITY=AVX512", "-DCPU_CAPABILITY_AVX512", "-mavx2", "-mfma", "-mf16c",
        "-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw",
    ],
}  # fmt: skip
# Libraries that this machine could not load.
_unusable: set[Path] = set()


class BuildError(Exception):
    """Why a library could not be built, in one line, and the remedy."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


def load(folder: Path) -> tuple[str, ...]:
    """Load the libraries built from this folder, making its operators known to torch.

    Returns the devices they run on, of ``DEVICES``: none when ``UNSUPFSS_OPS=reference`` or nothing is built.
    """
    if os.environ.get("UNSUPFSS_OPS") == "reference":
        return ()
    loaded: list[str] = []
    for device in _devices(folder):
        path = _library(folder, device)
        if path.is_file() and (device == "cpu" or loaded):  # the CPU's library declares the operators for both
            try:
                torch.ops.load_library(path)
            except OSError as error:
                _unusable.add(path)
                again = f"delete it and run bash {folder.relative_to(PROJECT)}/make.sh"
                print(f"{path} does not load ({error}): using the reference; {again}", file=sys.stderr)
            else:
                loaded.append(device)
    return tuple(loaded)


def backends() -> dict[str, str]:
    """What each operator runs on: ``"native (CPU, CUDA)"``, ``"native (CPU)"`` or ``"PyTorch reference"``.

    Raises ``UserError`` for an unknown value of ``UNSUPFSS_OPS``.
    """
    choice = os.environ.get("UNSUPFSS_OPS", "")
    if choice not in ("", "reference"):
        raise UserError(f"UNSUPFSS_OPS={choice}: expected 'reference', or unset it for the native operators")
    rows = {}
    for name, folder in FOLDERS.items():
        libraries = {device.upper(): _library(folder, device) for device in _devices(folder)}
        built = [device for device, path in libraries.items() if path.is_file() and path not in _unusable]
        reference = f"{_REFERENCES.get(name, 'PyTorch')} reference"
        rows[name] = f"native ({', '.join(built)})" if "CPU" in built and not choice else reference
    return rows


def build(folder: Path) -> str | None:
    """Build the missing operators of a folder and print the outcome.

    Returns None, or, when a library could not be built, why and what to do. A missing CUDA toolkit is not a failure.
    """
    for device in _devices(folder):
        name = f"{folder.relative_to(PROJECT)} for {device.upper()}"
        library = _library(folder, device)
        if library.is_file():
            print(f"{name}: built already")
            continue
        start = time.monotonic()
        try:
            home = cuda_home() if device == "cuda" and torch.version.cuda else None
            if device == "cuda" and home is None:
                print(f"{name}: {'no CUDA toolkit found' if torch.version.cuda else 'this torch has no CUDA'}")
                continue
            _compile(_sources(folder, device)[0], library, home)
        except BuildError as error:
            again = f"run bash {folder.relative_to(PROJECT)}/make.sh again; without it everything works, slower"
            return f"{name} could not be built: {error}; {error.remedy} and {again}"
        print(f"{name}: built in {time.monotonic() - start:.0f} s")
    return None


def _compile(source: Path, library: Path, home: Path | None) -> None:
    """Build ``library`` from ``source`` and load it. Raises ``BuildError``."""
    # Where pip put ninja, whether or not the environment is activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    compiler = os.environ.get("CXX", "c++")
    if not shutil.which(compiler):
        raise BuildError(f"no C++ compiler ({compiler}) on the PATH", "install one (g++ or clang++)")
    if not shutil.which("ninja"):
        raise BuildError("no ninja on the PATH", "pip install ninja")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns where there is no GPU
    from torch.utils import cpp_extension

    cpp_extension.CUDA_HOME = str(home)  # its own guess is the folder above that of whatever nvcc is on the PATH
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHITECTURES)
    library.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as temporary:
        try:
            cpp_extension.load(
                source.stem,
                [str(source)],
                # A product and a sum are rounded separately, as in the references, unless a kernel fuses them.
                extra_cflags=["-O3", "-ffp-contract=off", *_openmp(compiler), *_VECTOR_FLAGS.get(_capability(), [])],
                extra_cuda_cflags=["-O3"],
                build_directory=temporary,
                is_python_module=False,
            )
        except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
            log = library.parent / f"{source.stem}.log"
            write_text(log, str(error))
            raise BuildError(_first_error(str(error)), f"see {log}, fix it") from None
        os.replace(Path(temporary) / f"{source.stem}.so", library)


def cuda_home() -> Path | None:
    """The CUDA toolkit's folder, None where there is none. Raises ``BuildError`` for one that torch cannot use."""
    if "CUDA_HOME" in os.environ:
        chosen = os.environ["CUDA_HOME"]
        if not chosen:
            return None
        nvcc: str | None = str(Path(chosen) / "bin" / "nvcc")
    else:
        nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        return None
    try:
        # Ask it for its folder: the one on the PATH may be a link, or a script that calls one elsewhere.
        plan = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True).stderr
        version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(
            f"{nvcc} does not run ({error})", "set CUDA_HOME to a toolkit's folder, or to nothing"
        ) from None
    home, release = re.search(r"^#\$ TOP=(.+)$", plan, re.MULTILINE), re.search(r"release (\d+)\.", version)
    if home is None or release is None:
        raise BuildError(f"{nvcc} does not report where its toolkit is", "set CUDA_HOME to a toolkit's folder")
    if release[1] != str(torch.version.cuda).split(".")[0]:
        raise BuildError(
            f"the toolkit of {nvcc} is CUDA {release[1]}, torch's is {torch.version.cuda}",
            "set CUDA_HOME to a toolkit of torch's version, or to nothing",
        )
    return Path(home[1]).resolve()


def _devices(folder: Path) -> list[str]:
    """The devices that the folder holds sources for, of ``DEVICES``."""
    return [device for device in DEVICES if _sources(folder, device)]


def _library(folder: Path, device: str) -> Path:
    """Path of the library of these sources for this torch and processor, built or not."""
    sources = _sources(folder, device)
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    processor = f"{platform.machine()}-{_capability()}" if device == "cpu" else platform.machine()
    return folder / "build" / f"{sources[0].stem}-torch{torch.__version__}-{processor}-{digest.hexdigest()[:12]}.so"


def _sources(folder: Path, device: str) -> list[Path]:
    return [path for pattern in DEVICES[device] for path in folder.glob(pattern)]


def _capability() -> str:
    return torch.backends.cpu.get_cpu_capability()


def _openmp(compiler: str) -> list[str]:
    """The flag for threads. Only g++ uses the OpenMP runtime of torch; other builds use one thread."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    return ["-fopenmp"] if "Free Software Foundation" in version else []


def _first_error(output: str) -> str:
    """The first line of a build's output that reports an error, without the folder of the file that it names."""
    for line in output.splitlines():
        if re.search(r"\berror\b:|undefined symbol|cannot find", line):
            return re.sub(r"^\S*/", "", line.strip())
    return output.strip().splitlines()[-1]
