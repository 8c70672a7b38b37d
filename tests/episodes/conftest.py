"""A data set drawn on the spot, with labels and with a pseudo folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from episodes.lists import ImageList, read_list, write_list
from episodes.supervised import SupervisedEpisodes
from tests.episodes.drawn_images import COUNT, TRAIN, draw_label, draw_pseudo_mask, write_image_of_row
from util.files import write_json
from util.images import write_label

_PAIRS = [(f"JPEGImages/photo_{row:02d}.png", f"SegmentationClassAug/photo_{row:02d}.png") for row in range(COUNT)]


@pytest.fixture
def unlabelled(tmp_path: Path) -> ImageList:
    """Images alone; the labels that the list names do not exist."""
    for row, (image, _) in enumerate(_PAIRS):
        write_image_of_row(tmp_path / image, row)
    write_list(tmp_path / "train.txt", _PAIRS)
    return read_list(tmp_path / "train.txt", tmp_path, need_labels=False)


@pytest.fixture
def images(unlabelled: ImageList) -> ImageList:
    """The same with labels: five images of each of the classes 1 to 3."""
    for row in range(len(unlabelled)):
        write_label(unlabelled.label_path(row), draw_label(row))
    return read_list(unlabelled.list_file, unlabelled.root, need_labels=True)


@pytest.fixture
def training(images: ImageList) -> SupervisedEpisodes:
    return SupervisedEpisodes(images, (1, 2, 3), shots=2, seed=5, transform=TRAIN, min_area=200)


@pytest.fixture
def pseudo_folder(unlabelled: ImageList) -> Path:
    """Two regions an image, 7 in group 0 and 9 in group 1; image 0 also has 3, the only one of group 2."""
    folder = unlabelled.root / "pseudo"
    for row, image in enumerate(unlabelled.images):
        write_label(folder / f"{Path(image).stem}.png", draw_pseudo_mask(row))
    table = [(row, region, group) for row in range(COUNT) for region, group in ((7, 0), (9, 1))] + [(0, 3, 2)]
    columns = np.array(table, dtype=np.int32).T
    embedding = np.random.default_rng(0).standard_normal((len(table), 8))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    arrays = {
        name: np.ascontiguousarray(column) for name, column in zip(("image", "region", "group"), columns, strict=True)
    }
    arrays["area"] = np.full(len(table), 300, dtype=np.int32)
    save_file(arrays, folder / "regions.safetensors")
    np.save(folder / "embeddings.npy", embedding.astype(np.float16))
    np.save(folder / "neighbours.npy", np.empty((len(table), 0), dtype=np.int32))
    (folder / "images.txt").write_text("".join(f"{image}\n" for image in unlabelled.images))
    manifest = {
        "recipe": "global",
        "cluster_num": 30,
        "min_area": 200,
        "region_rule": "span",
        "superpixel": {"scale": 100.0, "sigma": 0.8},
        "list_digest": unlabelled.digest,
        "regions": len(table),
    }
    write_json(folder / "manifest.json", manifest)
    return folder
