"""A COCO of a few small images for the tests: what is in each label is known pixel by pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_masks

from util.images import write_image

HEIGHT, WIDTH = 40, 60
# A part of COCO's own categories; their classes are 1, 3 and 80.
CATEGORIES = [{"id": number, "name": name} for number, name in ((1, "person"), (90, "toothbrush"), (3, "car"))]


def rectangle(left: int, top: int, right: int, bottom: int) -> list[float]:
    """A polygon of exactly the pixels from left and top to right and bottom, these excluded."""
    return [left, top, right, top, right, bottom, left, bottom]


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) as uncompressed RLE."""
    column_wise = mask.astype(bool).ravel(order="F")
    changes = np.flatnonzero(np.diff(column_wise, prepend=False))
    counts = np.diff(changes, prepend=0, append=column_wise.size)
    return {"size": list(mask.shape), "counts": counts.tolist()}


def compressed(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) as COCO's compressed RLE."""
    encoded = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def box(left: int, top: int, right: int, bottom: int, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """The mask of ``rectangle``."""
    mask = np.zeros(shape, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def annotation(number: int, image: int, category: int, segmentation: object, crowd: int = 0) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": crowd,
        "area": 1.0,
        "bbox": [0, 0, 1, 1],
    }


def image(number: int, split: str = "train") -> dict[str, Any]:
    return {"id": number, "file_name": f"COCO_{split}2014_{number:012d}.jpg", "height": HEIGHT, "width": WIDTH}


def content(split: str = "train") -> dict[str, Any]:
    """Images 1 to 6: polygons, two parts, RLE, a crowd below an object; one outlined outside, one not at all."""
    annotations = [
        annotation(10, 1, 1, [rectangle(5, 5, 30, 30)]),
        annotation(11, 1, 90, [rectangle(20, 20, 40, 35)]),
        annotation(12, 2, 3, [rectangle(0, 0, 10, 10), rectangle(50, 30, 60, 40)]),
        annotation(13, 3, 1, compressed(box(7, 3, 20, 38))),
        annotation(14, 4, 90, run_lengths(box(2, 2, 50, 30)), crowd=1),
        annotation(15, 4, 1, [rectangle(10, 10, 20, 20)]),
        annotation(16, 5, 1, [rectangle(-30, -20, -10, -5)]),
    ]
    images = [image(number, split) for number in (4, 2, 1, 3, 5, 6)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": CATEGORIES}


def labels(crowd: int = 80) -> dict[int, np.ndarray]:
    """The labels of ``content``, uint8, for the images that have one."""
    expected = {number: np.zeros((HEIGHT, WIDTH), dtype=np.uint8) for number in range(1, 5)}
    expected[1][box(5, 5, 30, 30)] = 1
    expected[1][box(20, 20, 40, 35)] = 80
    expected[2][box(0, 0, 10, 10) | box(50, 30, 60, 40)] = 3
    expected[3][box(7, 3, 20, 38)] = 1
    expected[4][box(2, 2, 50, 30)] = crowd
    expected[4][box(10, 10, 20, 20)] = 1
    return expected


def write_annotations(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def write_coco(folder: Path) -> list[Path]:
    """``train2014`` and ``val2014`` with the images of ``content``; returns the files of annotations."""
    files = []
    for split in ("train", "val"):
        value = content(split)
        for entry in value["images"]:
            pixels = np.full((HEIGHT, WIDTH, 3), 10 * entry["id"], dtype=np.uint8)
            write_image(folder / f"{split}2014" / entry["file_name"], pixels)
        files.append(write_annotations(folder / "annotations" / f"instances_{split}2014.json", value))
    return files
