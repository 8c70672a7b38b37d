"""What the tests of ``python -m prepare folder`` share; the fixtures that go with it are in ``conftest.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prepare.__main__ import main
from util.images import write_image

SHAPE = (50, 60)


def prepare(images: Path, *options: object) -> None:
    main(["folder", str(images), "--name", "mine", *(str(option) for option in options)])


def written(project: Path) -> list[str]:
    return sorted(path.relative_to(project).as_posix() for path in project.rglob("*") if not path.is_dir())


def write_random_image(path: Path, shape: tuple[int, int] = SHAPE) -> None:
    write_image(path, np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8))
