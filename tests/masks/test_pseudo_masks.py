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
from tests.masks.small_images import arguments
from util.errors import UserError, run_command
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


def _flip_a_bit(name: str) -> Callable[[Path], None]:
    """What changes the last bit of a file, which is one of a number."""

    def flip(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    return flip


def _without_an_image(folder: Path) -> None:
    lines = (folder / "images.txt").read_text().splitlines()
    (folder / "images.txt").write_text("\n".join([*lines[1:], lines[1]]))


def _other_manifest(folder: Path, **changes: Any) -> None:
    write_json(folder / "manifest.json", {**read_json(folder / "manifest.json"), **changes})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, r"global: no complete set of pseudo masks here.*run `bash masks/create\.sh"),
        (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json is missing.*run `bash masks/create\.sh"),
        (lambda folder: (folder / "images.txt").unlink(), r"images\.txt: file not found; .*delete the folder"),
        (lambda folder: (folder / "regions.safetensors").write_bytes(b"x"), r"regions\.safetensors: not a readable"),
        (lambda folder: (folder / "photo_03.png").unlink(), r"photo_03\.png: .*not found; delete the folder"),
        (_truncate, r"photo_03\.png: not a readable label.*delete the folder"),
        (_other_mask, r"photo_03\.png: not the mask that regions\.safetensors.*delete the folder"),
        (_without_the_region, r"photo_0\d\.png: not the mask that regions\.safetensors.*delete the folder"),
        (_without_an_image, r"images\.txt: not the images of manifest\.json; delete the folder"),
        (_flip_a_bit("embeddings.npy"), r"global: embeddings\.npy changed after it was written; delete the folder"),
        (_flip_a_bit("images.txt"), r"global: images\.txt changed after it was written; delete the folder"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), r"manifest\.json: list is there, an object"),
        (lambda folder: _other_manifest(folder, recipe=["global"]), r"manifest\.json: it does not say what"),
        (lambda folder: _other_manifest(folder, recipe="fancy"), r"manifest\.json: it does not say what"),
        (lambda folder: _other_manifest(folder, cluster_num="4"), r"manifest\.json: it does not say what"),
    ],
)
def test_a_damaged_folder_is_one_line(copied: Path, root: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(copied)
    with pytest.raises(UserError, match=rf"^[^\n]*{message}[^\n]*$"):
        main(arguments(root, "global", copied))


@pytest.mark.parametrize("name", ["report.json", "report.png"])
def test_a_folder_in_the_place_of_the_report_is_named(
    copied: Path, root: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / name).unlink(missing_ok=True)
    (copied / name).mkdir()
    with pytest.raises(SystemExit) as ended:
        run_command(main, arguments(root, "global", copied))
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {copied / name}: Is a directory; a file is")


def test_a_list_of_other_images_is_refused(copied: Path, root: Path, tmp_path: Path) -> None:
    lines = (root / "train.txt").read_text().splitlines()
    (tmp_path / "fewer.txt").write_text("\n".join(lines[1:]))
    with pytest.raises(UserError, match=r"its 10 masks are not of the 9 images in .*fewer\.txt; give the list"):
        main(arguments(root, "global", copied, f"list={tmp_path / 'fewer.txt'}"))
