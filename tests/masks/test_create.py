"""The command from photographs to pseudo folder: what it writes, twice the same, killed and continued."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import masks.create
from episodes.lists import ImageList
from masks.create import main
from masks.photographs import Photograph, load_photographs
from masks.regions import kept_regions
from masks.settings import choose_config, output_stride
from tests.masks.photographs import COUNT, arguments
from util.files import PROJECT, read_json
from util.images import read_image, read_label


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", params=["global", "image"])
def made(request: pytest.FixtureRequest, root: Path) -> tuple[str, Path]:
    """A recipe and the folder it made."""
    folder = root / f"made_{request.param}"
    main(arguments(root, request.param, folder))
    return request.param, folder


def test_folder_holds_masks_index_and_manifest(made: tuple[str, Path], root: Path) -> None:
    recipe, folder = made
    images = (folder / "images.txt").read_text().splitlines()
    regions = load_file(folder / "regions.safetensors")
    found = []
    for row, image in enumerate(images):
        mask = read_label(folder / f"{Path(image).stem}.png")
        assert mask.shape == read_image(root / "shapes" / image).shape[:2]
        kept = kept_regions(mask, min_area=300, rule="border")
        found += [(row, region, int((mask == region).sum())) for region in kept]
    assert found == list(zip(*(regions[column].tolist() for column in ("image", "region", "area")), strict=True))
    assert np.array_equal(regions["group"], regions["region"] if recipe == "global" else 0 * regions["region"])
    assert regions["embedding"].shape == (len(found), 64)
    manifest = read_json(folder / "manifest.json")
    assert (manifest["images"], manifest["regions"], manifest["recipe"]) == (COUNT, len(found), recipe)
    assert manifest["superpixel"] == {"scale": 100.0, "sigma": 0.8, "min_size": 200}
    assert not (folder / ".partial").exists()


def test_twice_gives_the_same_bytes(made: tuple[str, Path], root: Path, tmp_path: Path) -> None:
    recipe, folder = made
    main(arguments(root, recipe, tmp_path / "again"))
    assert _content(tmp_path / "again") == _content(folder)


def test_a_complete_folder_is_left_alone(
    made: tuple[str, Path], root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, folder = made
    monkeypatch.setattr(masks.create, "load_photographs", None)
    main(arguments(root, recipe, folder))
    assert f"is complete: {COUNT} masks" in capsys.readouterr().err


_KILLED_AT_THE_SIXTH_IMAGE = """
import os, signal, sys
import masks.store
from masks.create import main

masks.store._CHUNK = 4
add = masks.store.PseudoFolder.add

def add_or_die(self, row, labels, regions):
    if row == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, row, labels, regions)

masks.store.PseudoFolder.add = add_or_die
main(sys.argv[1:])
"""


def test_a_killed_run_is_continued(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, words = tmp_path / "killed", arguments(root, "global", tmp_path / "killed")
    command = [sys.executable, "-c", _KILLED_AT_THE_SIXTH_IMAGE, *words]
    # Returns when the workers have closed their ends of the pipe too, that is, ended.
    killed = subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(folder.glob("*.png"))) == 5
    assert not (folder / "manifest.json").exists()
    (folder / ".photo_06.123.png").write_bytes(b"half")  # as if it had died while it wrote

    monkeypatch.setattr("masks.store._CHUNK", 4)
    loaded: list[int] = []

    def load(images: ImageList, rows: list[int], **settings: Any) -> Iterator[list[Photograph]]:
        loaded.extend(rows)
        return load_photographs(images, rows, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(masks.create, "cluster_dataset", None)  # the centroids are there already
        patch.setattr(masks.create, "load_photographs", load)
        main(words)
    assert loaded == list(range(4, COUNT))
    main(arguments(root, "global", tmp_path / "at_once"))
    assert _content(folder) == _content(tmp_path / "at_once")


@pytest.mark.parametrize("made", ["global"], indirect=True)
def test_published_masks_differ_and_say_so(root: Path, made: tuple[str, Path], tmp_path: Path) -> None:
    main(arguments(root, "global", tmp_path / "published", "TRAIN.compat=published"))
    manifest = read_json(tmp_path / "published" / "manifest.json")
    assert manifest["compat"] == "published"
    masks_differ = [path.read_bytes() != (made[1] / path.name).read_bytes() for path in tmp_path.rglob("photo_*.png")]
    assert len(masks_differ) == COUNT and any(masks_differ)


def test_choice_of_the_experiment(tmp_path: Path) -> None:
    for name in ("pascal", "COCO2014"):
        (tmp_path / name).mkdir()
    assert choose_config(tmp_path, "pascal", []).experiment == "ssl_resnet50"
    assert choose_config(tmp_path, "pascal", ["extractor=timm:mobilenetv2_100"]).experiment == "ssl_mobilenetv2"
    assert choose_config(tmp_path, "pascal", ["extractor=timm:resnet18"]).experiment == "ssl_resnet50"
    assert choose_config(tmp_path, "pascal", ["experiment=ssl_resnet101"]).experiment == "ssl_resnet101"
    assert choose_config(tmp_path, "coco", []).DATA.data_root == tmp_path / "COCO2014"


@pytest.mark.parametrize(
    ("settings", "stride"),
    [
        ([], 32),
        (["extractor=timm:resnet50", "Cluster.recipe=global"], 32),
        (["extractor=timm:resnet50", "Cluster.recipe=global", "Cluster.cluster_size=257"], 16),
        (["extractor=timm:resnet50", "Cluster.recipe=global", "Cluster.cluster_size=129"], 8),
        (["extractor=timm:resnet50", "Cluster.recipe=image"], 8),
    ],
)
def test_stride_of_the_features(tmp_path: Path, settings: list[str], stride: int) -> None:
    (tmp_path / "pascal").mkdir()
    assert output_stride(choose_config(tmp_path, "pascal", ["experiment=ssl_resnet50", *settings])) == stride


def test_the_script_runs_from_its_own_folder_under_sh(root: Path, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("JPEGImages/photo_01.jpg\nJPEGImages/photo_02.jpg\n")
    words = arguments(root, "image", tmp_path / "pseudo", f"list={tmp_path / 'two.txt'}", "TRAIN.workers=0")
    run = subprocess.run(["sh", "create.sh", *words], cwd=PROJECT / "masks", capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "pseudo masks for 2 images" in run.stderr
    assert (tmp_path / "pseudo" / "photo_02.png").is_file()


@pytest.mark.gpu
def test_on_the_gpu(root: Path, tmp_path: Path) -> None:
    assert torch.cuda.is_available()
    main(arguments(root, "global", tmp_path / "pseudo"))
    assert (tmp_path / "pseudo" / "manifest.json").is_file()
