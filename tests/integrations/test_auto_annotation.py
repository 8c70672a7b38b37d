"""CVAT's function against its SDK: loaded as its command line does, labels, masks and polygons that it accepts."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from segmenter import Segmenter
from tests.masks.small_images import draw_image, write_extractor
from util.files import PROJECT
from util.images import write_image, write_label

pytest.importorskip("cvat_sdk", reason="cvat-sdk is not installed")

import cvat_sdk.auto_annotation as cvataa
from cvat_sdk import models
from cvat_sdk.auto_annotation import driver
from cvat_sdk.masks import decode_mask

IMAGE = draw_image(1)


class Context(cvataa.DetectionFunctionContext):
    """What CVAT tells about a frame."""

    frame_name = "frame.png"
    conf_threshold: float | None = None
    conv_mask_to_poly = False

    def __init__(self, **told: Any) -> None:
        self.__dict__.update(told)


@pytest.fixture(scope="module")
def detection(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The function as ``cvat-cli --function-file`` makes it, of two classes."""
    root = tmp_path_factory.mktemp("cvat")
    disc = np.hypot(*np.mgrid[-60:60, -80:80]) < 35
    for name, mask in (("disc", disc), ("rest", ~disc)):
        write_image(root / "supports" / name / "a.png", IMAGE)
        write_label(root / "supports" / name / "a_mask.png", mask.astype(np.uint8))
    weights = write_extractor(root / "backbone.pth", "mobilenetv2_035")
    spec = importlib.util.spec_from_file_location("cvat", PROJECT / "integrations/cvat/auto_annotation.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    backbone = f"TRAIN.backbone=mobilenetv2_035 TRAIN.backbone_weights={weights}"
    return module.create(supports=str(root / "supports"), method="nearest", backbone=backbone)


def test_labels_are_the_classes(detection: Any) -> None:
    assert isinstance(detection.spec, cvataa.DetectionFunctionSpec)  # which has checked them
    assert [(label.name, label.id) for label in detection.spec.labels] == [("disc", 1), ("rest", 2)]


def test_masks_are_those_of_the_segmenter(detection: Any) -> None:
    shapes = detection.detect(Context(), Image.fromarray(IMAGE))
    expected = detection._segmenter.predict(IMAGE).mask
    assert [(shape.label_id, shape.frame, str(shape.type)) for shape in shapes] == [(1, 0, "mask"), (2, 0, "mask")]
    for shape in shapes:
        mask = decode_mask(shape.points, image_width=160, image_height=120)
        assert np.array_equal(mask, expected == shape.label_id)


def test_polygons_where_it_wants_them(detection: Any) -> None:
    expected = detection._segmenter.predict(IMAGE).mask
    drawn = np.zeros(expected.shape, dtype=np.uint8)
    for shape in detection.detect(Context(conv_mask_to_poly=True), Image.fromarray(IMAGE)):
        assert str(shape.type) == "polygon" and len(shape.points) >= 6
        if shape.label_id == 1:
            cv2.fillPoly(drawn, [np.array(shape.points).reshape(-1, 2).astype(np.int32)], 1)
    assert (drawn[expected == 1] == 1).mean() > 0.95  # all but lines and points


def test_the_confidence_is_the_presence(detection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []
    predict = Segmenter.predict

    def noted(self: Segmenter, image: Any, *, presence: float | None) -> Any:
        asked.append(presence)
        return predict(self, image, presence=presence)

    monkeypatch.setattr(Segmenter, "predict", noted)
    for threshold in (None, 0.0, 0.9):
        detection.detect(Context(conf_threshold=threshold), Image.fromarray(IMAGE))
    assert asked == [0.5, 0.0, 0.9]


@pytest.mark.parametrize("polygons", [False, True])
def test_what_it_returns_passes_the_checks_of_the_driver(detection: Any, polygons: bool) -> None:
    """Those of ``annotate_task`` before it sends shapes; a task numbers its labels in its own way."""
    labels = [
        models.Label(name=name, id=number, type="any", attributes=[], sublabels=[])
        for number, name in ((31, "disc"), (32, "rest"))
    ]
    mapper = driver._AnnotationMapper(
        logging.getLogger("cvat"),
        detection.spec.labels,
        labels,
        allow_unmatched_labels=False,
        conv_mask_to_poly=polygons,
    )
    shapes = detection.detect(Context(conv_mask_to_poly=polygons), Image.fromarray(IMAGE))
    tags, remapped = mapper.validate_and_remap(shapes, 7)
    assert not tags and {(shape.label_id, shape.frame) for shape in remapped} == {(31, 7), (32, 7)}
