"""What ``predict.py`` writes for annotation tools comes back through ``prepare folder --masks`` to the same pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.prediction_files import PredictionFolder
from engine.predictions import Prediction
from episodes.class_names import dataset_names
from tests.prepare.own_images import prepare
from util.images import read_label, write_image

CLASSES = ["dog", "ant", "big cat"]


@pytest.mark.parametrize("form", ["coco", "labelme"])
def test_masks_come_back(tmp_path: Path, project: Path, form: str) -> None:
    """Of several classes that touch, with holes, in folders."""
    rng, images = np.random.default_rng(0), tmp_path / "images"
    names = {
        images / f"{'ab'[number % 2]}/photo{number}.jpg": f"{'ab'[number % 2]}/photo{number}" for number in range(8)
    }
    output, expected = PredictionFolder(tmp_path / "out"), {}
    output.reserve(names, [], classes=CLASSES, settings="", forms=[form, "mask", "probability"])
    with output.recording():
        for path, name in names.items():
            maps = {each: cv2.GaussianBlur(rng.random((80, 60)), (0, 0), 2) for each in CLASSES}
            highest = np.stack(list(maps.values()))
            mask = np.where(highest.max(axis=0) > 0.53, highest.argmax(axis=0) + 1, 0).astype(np.uint8)
            write_image(path, rng.integers(0, 255, (80, 60, 3), dtype=np.uint8))
            prediction = Prediction(np.zeros((80, 60, 3), dtype=np.uint8), mask, maps, dict.fromkeys(CLASSES))
            output.write(path, name, prediction)
            expected[path.name] = mask
    prepare(images, "--masks", tmp_path / ("out/predictions.coco.json" if form == "coco" else "out"))
    data = project / "data/mine"
    numbers = {name: number for number, name in dataset_names(data).items()}
    renumbered = np.array([0, *(numbers[name] for name in CLASSES)])
    labels = sorted((data / "SegmentationClassAug").glob("*.png"))
    assert len(labels) == 8
    for path in labels:
        assert np.array_equal(read_label(path), renumbered[expected[f"{path.stem}.jpg"]])
