"""Reading a complete pseudo folder: what a damaged one, or a list of other images, is refused with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import masks.create
from masks.report.__main__ import main
from tests.masks.small_images import COUNT, arguments
from util.errors import UserError
from util.files import read_json, write_json
from util.images import read_label, write_label


@pytest.fixture(scope="module")
def made(root: Path) -> Path:
    """A complete pseudo folder."""
    masks.create.main(arguments(root, "global", root / "whole"))
    return root / "whole"


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """A folder to damage."""
    return Path(shutil.copytree(made, tmp_path / "global"))


def _truncate(folder: Path) -> None:
    path = folder / "photo_03.png"
    path.write_bytes(path.read_bytes()[:60])


def _other_mask(folder: Path) -> None:
    write_label(folder / "photo_03.png", np.full((120, 160), 200, dtype=np.uint8))


def _without_the_region(folder: Path) -> None:
    table = load_file(folder / "regions.safetensors")
    row, region = int(table["image"][0]), int(table["region"][0])
    path = folder / f"photo_{row:02d}.png"
    write_label(path, np.full_like(read_label(path), (region + 1) % 4))


def _other_manifest(folder: Path) -> None:
    write_json(folder / "manifest.json", {**read_json(folder / "manifest.json"), "images": COUNT + 1})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, r"global: no complete set of pseudo masks here.*run `bash masks/create\.sh"),
        (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json is missing.*run `bash masks/create\.sh"),
        (lambda folder: (folder / "images.txt").unlink(), r"images\.txt: file not found; run `bash masks/create"),
        (lambda folder: (folder / "regions.safetensors").write_bytes(b"x"), r"regions\.safetensors: not a readable"),
        (lambda folder: (folder / "photo_03.png").unlink(), r"photo_03\.png: .*not found; delete the folder"),
        (_truncate, r"photo_03\.png: not a readable label.*delete the folder"),
        (_other_mask, r"photo_03\.png: not the mask that regions\.safetensors.*delete the folder"),
        (_without_the_region, r"photo_0\d\.png: not the mask that regions\.safetensors.*delete the folder"),
        (_other_manifest, r"images\.txt, regions\.safetensors and manifest\.json do not describe the same 11 images"),
    ],
)
def test_a_damaged_folder_is_one_line(copied: Path, root: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(copied)
    with pytest.raises(UserError, match=rf"^[^\n]*{message}[^\n]*$"):
        main(arguments(root, "global", copied))


def test_a_list_of_other_images_is_refused(copied: Path, root: Path, tmp_path: Path) -> None:
    lines = (root / "train.txt").read_text().splitlines()
    (tmp_path / "fewer.txt").write_text("\n".join(lines[1:]))
    with pytest.raises(UserError, match=r"its 10 masks are not of the 9 images in .*fewer\.txt; give the list"):
        main(arguments(root, "global", copied, f"list={tmp_path / 'fewer.txt'}"))
