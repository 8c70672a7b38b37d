"""Label Studio's backend against its SDK: annotations become supports, predictions are valid and mean the masks.

The package of backends, label-studio-ml, is on no registry in the version of today: what the backend takes from its
base class stands here.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from tests.masks.small_images import draw_image, write_extractor
from util.errors import UserError
from util.images import read_label, write_image

pytest.importorskip("label_studio_sdk", reason="label-studio-sdk is not installed")

from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface

CONFIG = """<View><Image name="image" value="$photo"/>
<{0} name="tag" toName="image"><Label value="disc"/><Label value="rest"/></{0}></View>"""
DISC = np.hypot(*np.mgrid[-60:60, -80:80]) < 35


class Base:
    """What the backend takes from ``LabelStudioMLBase`` of label-studio-ml 2."""

    def __init__(self, project_id: str, label_config: str) -> None:
        self.project_id, self.label_interface = project_id, LabelInterface(config=label_config)

    def get_local_path(self, url: str, task_id: int | None = None) -> str:
        return url


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The backend's module, with a method without training and an empty folder of supports."""
    package, model = ModuleType("label_studio_ml"), ModuleType("label_studio_ml.model")
    model.LabelStudioMLBase = Base  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "label_studio_ml", package)
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", model)
    weights = write_extractor(tmp_path / "backbone.pth", "mobilenetv2_035")
    monkeypatch.setenv("METHOD", "nearest")
    monkeypatch.setenv("BACKBONE", f"TRAIN.backbone=mobilenetv2_035 TRAIN.backbone_weights={weights}")
    monkeypatch.setenv("SUPPORTS", str(tmp_path / "supports"))
    monkeypatch.delitem(sys.modules, "integrations.label_studio.backend", raising=False)
    return importlib.import_module("integrations.label_studio.backend")


def task(folder: Path, number: int) -> dict[str, Any]:
    write_image(folder / f"{number}.png", draw_image(number))
    return {"id": number, "data": {"photo": str(folder / f"{number}.png")}}


def region(label: str, marked: np.ndarray, kind: str = "brushlabels") -> dict[str, Any]:
    """An annotated region; a polygon goes around the largest piece."""
    size = {"original_width": 160, "original_height": 120}
    if kind == "brushlabels":
        value: dict[str, Any] = {"format": "rle", "rle": brush.mask2rle(255 * marked.astype(np.uint8))}
    else:
        contours, _ = cv2.findContours(marked.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        value = {"points": (100 * contours[0][:, 0] / (160, 120)).tolist()}
    return {**size, "type": kind, "value": {**value, kind: [label]}, "from_name": "tag", "to_name": "image"}


@pytest.mark.parametrize("control", ["BrushLabels", "PolygonLabels"])
def test_annotations_become_supports_and_predictions_are_valid(module: Any, tmp_path: Path, control: str) -> None:
    backend = module.FewShotBackend("3", CONFIG.format(control))
    kind = control.lower()
    first = task(tmp_path, 1)
    assert backend.predict([first]) == [{"result": [], "score": 0.0}]
    regions = [region("disc", DISC, kind), region("rest", np.arange(160 * 120).reshape(120, 160) < 2000, kind)]
    regions.append({"type": "choices", "value": {"choices": ["good"]}})
    data = {"annotation": {"id": 5, "result": regions}, "task": first}
    assert backend.fit("ANNOTATION_CREATED", data) == {"disc": 1, "rest": 1}
    kept = read_label(tmp_path / "supports/project_3/disc/annotation_000000005_mask.png")
    assert np.array_equal(kept, DISC)
    (prediction,) = backend.predict([first])
    assert backend.label_interface.validate_prediction(prediction, return_errors=True) == []
    expected = module.fitted(tmp_path / "supports/project_3", ()).predict(draw_image(1))
    marked = module.masks_of(prediction["result"])
    present = {label: expected.mask == number for number, label in enumerate(("disc", "rest"), start=1)}
    assert marked.keys() == {label for label, mask in present.items() if mask.any()} and "disc" in marked
    for label, mask in marked.items():
        overlap = (mask & present[label]).sum() / (mask | present[label]).sum()
        assert overlap == 1 if kind == "brushlabels" else overlap > 0.8
    assert all(0.5 < each["score"] <= prediction["score"] for each in prediction["result"])


def test_an_annotation_that_changes_or_goes_takes_its_supports_along(module: Any, tmp_path: Path) -> None:
    backend = module.FewShotBackend("3", CONFIG.format("BrushLabels"))
    for number in range(7):
        data = {"annotation": {"id": number, "result": [region("disc", DISC)]}, "task": task(tmp_path, number)}
        backend.fit("ANNOTATION_CREATED", data)
    data["annotation"]["result"] = [region("rest", DISC)]
    assert backend.fit("ANNOTATION_UPDATED", data) == {"disc": 6, "rest": 1}
    assert backend.fit("ANNOTATION_DELETED", data) == {"disc": 6}
    assert backend.fit("START_TRAINING", {"project": {"id": 3}}) == {"disc": 6}
    assert module.FewShotBackend("4", CONFIG.format("BrushLabels")).predict([data["task"]])[0]["result"] == []
    (prediction,) = backend.predict([data["task"]])
    assert {each["value"]["brushlabels"][0] for each in prediction["result"]} == {"disc"}


def test_a_label_that_is_no_name_of_a_folder(module: Any, tmp_path: Path) -> None:
    backend = module.FewShotBackend("3", CONFIG.format("BrushLabels"))
    for label in ("../disc", "..", "a/b"):
        data = {"annotation": {"id": 1, "result": [region(label, DISC)]}, "task": task(tmp_path, 1)}
        with pytest.raises(UserError, match="cannot be the name of a folder; rename it"):
            backend.fit("ANNOTATION_CREATED", data)
