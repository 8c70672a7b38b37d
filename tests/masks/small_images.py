"""Images and a tiny extractor for the tests of pseudo masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import timm
import torch

from episodes.lists import ImageList, read_list, write_list

EXTRACTOR = "test_efficientnet"
COUNT = 10
_SETTINGS = [
    f"extractor=timm:{EXTRACTOR}",
    "Cluster.cluster_size=64",
    "Cluster.assign_size=64",
    "Cluster.cluster_num=4",
    "Cluster.region_rule=border",
    "DATA.min_area=300",
    "Cluster.threads=2",
]


def draw_image(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """A disc of one texture before another, RGB uint8."""
    rng = np.random.default_rng(seed)
    background, disc = rng.integers(0, 256, (2, 3))
    image = rng.normal(background, 12, (height, width, 3))
    rows, columns = np.mgrid[:height, :width]
    inside = (rows - height * rng.uniform(0.4, 0.6)) ** 2 + (columns - width * rng.uniform(0.4, 0.6)) ** 2 < 35**2
    image[inside] = rng.normal(disc, 40, (inside.sum(), 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def write_images(root: Path, count: int) -> ImageList:
    """``count`` JPEGs below ``root/shapes``, every third upright, and ``root/train.txt`` that lists them."""
    names = [f"JPEGImages/photo_{index:02d}.jpg" for index in range(count)]
    for index, name in enumerate(names):
        path = root / "shapes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sides = (160, 120) if index % 3 == 0 else (120, 160)
        cv2.imwrite(str(path), draw_image(index, *sides))
    write_list(root / "train.txt", [(name, None) for name in names])
    return read_list(root / "train.txt", root / "shapes", need_labels=False)


def write_extractor(path: Path, model: str = EXTRACTOR) -> Path:
    """Random weights of a tiny timm model, with its classifier, as a file."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(timm.create_model(model, pretrained=False).state_dict(), path)
    return path


def arguments(root: Path, recipe: str, folder: Path, *further: str) -> list[str]:
    """What stands after ``create.sh`` to make ``folder`` from what the fixture ``root`` holds."""
    files = [f"weights={root / 'tiny.pth'}", f"list={root / 'train.txt'}", f"Cluster.pseudo_folder={folder}"]
    return [str(root), "shapes", *_SETTINGS, *files, f"Cluster.recipe={recipe}", *further]
