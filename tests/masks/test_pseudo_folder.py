"""The pseudo folder: images one by one, and what may be continued."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from episodes.lists import ImageList
from episodes.pseudo_files import VERSION
from masks.neighbours import Neighbours
from masks.pseudo_folder import PseudoFolder
from masks.recipes.clusters import ClusterRecipe
from util.errors import UserError
from util.files import read_json, write_json


def _images(root: Path, count: int) -> ImageList:
    root.mkdir(exist_ok=True)
    names = tuple(f"photo_{row:03d}.jpg" for row in range(count))
    for row, name in enumerate(names):
        (root / name).write_bytes(bytes(row))
    return ImageList(root, names, (None,) * count, "digest", Path("list.txt"))


def _add(folder: PseudoFolder, row: int) -> None:
    values = {"image": row, "region": 0, "group": row, "area": 16}
    columns = {name: np.array([value], dtype=np.int32) for name, value in values.items()}
    folder.add(row, np.zeros((4, 4), dtype=np.uint8), {**columns, "embedding": np.ones((1, 3), dtype=np.float16)})


def test_an_image_is_done_when_its_regions_are_there(tmp_path: Path) -> None:
    images = _images(tmp_path / "photos", 5)
    folder = PseudoFolder(tmp_path / "pseudo", images, {"seed": 1})
    assert not folder.is_complete()
    folder.start()
    assert folder.missing_rows() == [0, 1, 2, 3, 4]
    for row in (3, 1):
        _add(folder, row)
    (tmp_path / "pseudo" / "photo_002.png").write_bytes(b"killed before its regions")
    (tmp_path / "pseudo" / ".partial" / "regions" / ".0000002.safetensors.77").write_bytes(b"killed meanwhile")
    again = PseudoFolder(tmp_path / "pseudo", images, {"seed": 1})
    assert not again.is_complete()
    again.start()
    assert again.missing_rows() == [0, 2, 4]
    for row in again.missing_rows():
        _add(again, row)
    again.finish(neighbours=2, device=torch.device("cpu"))
    assert load_file(tmp_path / "pseudo" / "regions.safetensors")["image"].tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(np.load(tmp_path / "pseudo" / "embeddings.npy"), np.ones((5, 3), dtype=np.float16))
    assert np.load(tmp_path / "pseudo" / "neighbours.npy").tolist() == [[-1, -1]] * 5  # each alone in its group
    assert PseudoFolder(tmp_path / "pseudo", images, {"seed": 1}).is_complete()
    assert read_json(tmp_path / "pseudo" / "manifest.json")["regions"] == 5


@pytest.mark.parametrize("recall", [1.0, 0.9666666])
def test_the_manifest_states_how_many_neighbours_were_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recall: float
) -> None:
    """Older manifests do not, and are read as before."""
    rows = np.full((2, 1), -1, dtype=np.int32)
    monkeypatch.setattr("masks.pseudo_folder.nearest_neighbours", lambda *_, **__: Neighbours(rows, recall))
    folder = PseudoFolder(tmp_path / "pseudo", _images(tmp_path / "photos", 2), {"seed": 1})
    folder.start()
    _add(folder, 0)
    _add(folder, 1)
    folder.finish(neighbours=1, device=torch.device("cpu"))
    manifest = read_json(tmp_path / "pseudo" / "manifest.json")
    assert manifest.pop("neighbour_recall") == round(recall, 4)
    write_json(tmp_path / "pseudo" / "manifest.json", manifest)
    assert folder.is_complete()


def test_masks_of_other_images_of_the_same_names_are_not_complete(tmp_path: Path) -> None:
    """Two images that exchange their names are two other images."""
    images = _images(tmp_path / "photos", 2)
    folder = PseudoFolder(tmp_path / "pseudo", images, {})
    folder.start()
    for row in range(2):
        _add(folder, row)
    folder.finish(neighbours=1, device=torch.device("cpu"))
    assert PseudoFolder(tmp_path / "pseudo", images, {}).is_complete()
    (images.root / "photo_000.jpg").write_bytes(b"x")
    (images.root / "photo_001.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"other settings \(file_sizes_digest is .* expected\); delete the folder"):
        PseudoFolder(tmp_path / "pseudo", images, {}).is_complete()


def test_parts_stay_the_same_while_others_make_masks(tmp_path: Path) -> None:
    folder = PseudoFolder(tmp_path / "pseudo", _images(tmp_path / "photos", 7), {})
    folder.start()
    assert folder.missing_rows(part=0, parts=2) == [0, 2, 4, 6]
    for row in (0, 2):
        _add(folder, row)
    assert folder.missing_rows(part=1, parts=2) == [1, 3, 5]
    assert folder.missing_rows(part=0, parts=2) == [4, 6]


def test_an_unfinished_folder_is_continued_with_its_own_settings_and_order_only(tmp_path: Path) -> None:
    images = _images(tmp_path / "photos", 3)
    PseudoFolder(tmp_path / "pseudo", images, {"seed": 1}).start()
    with pytest.raises(UserError, match="seed is 1 there, 2 expected"):
        PseudoFolder(tmp_path / "pseudo", images, {"seed": 2}).start()
    with pytest.raises(UserError, match="list_order"):
        PseudoFolder(tmp_path / "pseudo", replace(images, images=images.images[::-1]), {"seed": 1}).start()


def test_what_was_learnt_is_kept(tmp_path: Path) -> None:
    folder = PseudoFolder(tmp_path / "pseudo", _images(tmp_path / "photos", 3), {})
    assert folder.load_learnt(ClusterRecipe.learns) is None
    centroids = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    folder.save_learnt({"centroids": centroids})
    loaded = folder.load_learnt(ClusterRecipe.learns)
    assert loaded is not None and np.array_equal(loaded["centroids"], centroids)


def test_masks_of_an_earlier_version_are_not_taken_for_complete(tmp_path: Path) -> None:
    write_json(tmp_path / "pseudo" / "manifest.json", {"version": VERSION - 1, "seed": 1})
    with pytest.raises(UserError, match=r"version is 2 there, 3 expected.*delete the folder"):
        PseudoFolder(
            tmp_path / "pseudo", _images(tmp_path / "photos", 3), {"version": VERSION, "seed": 1}
        ).is_complete()
