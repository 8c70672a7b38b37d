"""An ML backend for Label Studio: what is annotated becomes supports, by which other tasks are filled.

docs/integrations.md says how it is started. Environment variables: ``CHECKPOINT``, or ``METHOD`` and ``BACKBONE``, name
the model with the words of ``predict.py``; ``SUPPORTS`` is the folder where supports are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from label_studio_ml.model import LabelStudioMLBase
from label_studio_sdk.converter import brush

from commands.prediction.inputs import find_supports, read_supports
from engine.predictions import Prediction
from segmenter import Segmenter
from util.errors import UserError
from util.images import read_image, write_image, write_label
from util.images.polygons import outline_polygons

# Annotated images of a class that count: the last ones.
SHOTS = 5
_BRUSH, _POLYGON = "brushlabels", "polygonlabels"


class FewShotBackend(LabelStudioMLBase):
    """Keeps annotations as supports; predicts brush strokes, or polygons where the labelling interface has no brush."""

    def fit(self, event: str, data: Mapping[str, Any], **_: Any) -> dict[str, int]:
        """Keep what an annotation marks, ``x_mask.png`` beside ``x.png`` in a folder for each label.

        ``event`` is the name of a webhook of Label Studio, ``data`` what it sends: what the annotation marked before is
        forgotten. Returns the number of supports of each label.
        """
        if "annotation" in data:
            name = f"annotation_{int(data['annotation']['id']):09d}"
            for path in self._supports.glob(f"*/{name}*.png"):
                path.unlink()
            if event != "ANNOTATION_DELETED":
                self._keep(name, self._image(data["task"]), data["annotation"]["result"])
        counts = {folder.name: len([*folder.glob("*_mask.png")]) for folder in self._supports.glob("*")}
        return {label: count for label, count in counts.items() if count}

    def predict(self, tasks: Sequence[Mapping[str, Any]], context: Any = None, **_: Any) -> list[dict[str, Any]]:
        """A prediction for each task, without regions before the first annotation."""
        files = tuple((path, path.stat().st_mtime_ns) for path in sorted(self._supports.glob("*/*.png")))
        if not files:
            return [{"result": [], "score": 0.0} for _ in tasks]
        segmenter = fitted(self._supports, files)
        from_name, to_name, _key = self._tags()
        kind = self.label_interface.get_control(from_name).tag.lower()
        return [
            _in_label_studio(segmenter.predict(self._image(task)), kind, {"from_name": from_name, "to_name": to_name})
            for task in tasks
        ]

    def _keep(self, name: str, image: np.ndarray, regions: Sequence[Mapping[str, Any]]) -> None:
        for label, mask in masks_of(regions).items():
            if Path(label).name != label or label == "..":
                raise UserError(f"label {label}: cannot be the name of a folder; rename it")
            write_image(self._supports / label / f"{name}.png", image)
            write_label(self._supports / label / f"{name}_mask.png", mask.astype(np.uint8))

    @property
    def _supports(self) -> Path:
        return Path(os.environ.get("SUPPORTS", "label_studio_supports")) / f"project_{self.project_id}"

    def _image(self, task: Mapping[str, Any]) -> np.ndarray:
        value = self._tags()[2]
        return read_image(Path(self.get_local_path(task["data"][value], task_id=task.get("id"))))

    def _tags(self) -> tuple[str, str, str]:
        """Names of the control and of the image that it belongs to, and the key of a task's data that has the image."""
        tags: tuple[str, str, str] = self.label_interface.get_first_tag_occurence(
            ("BrushLabels", "PolygonLabels"), "Image"
        )
        return tags


@lru_cache(maxsize=1)
def fitted(folder: Path, files: tuple[tuple[Path, int], ...]) -> Segmenter:
    """The model that the environment names, with the supports in ``folder``, which holds ``files`` of these times."""
    backbone = os.environ.get("BACKBONE", "").split()
    segmenter = Segmenter.load(os.environ.get("CHECKPOINT"), method=os.environ.get("METHOD"), backbone=backbone)
    for name, pairs in find_supports(folder).items():
        segmenter.describe(name, read_supports({name: pairs[-SHOTS:]})[name])
    return segmenter


def masks_of(regions: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """What the brush strokes and polygons of an annotation mark, for each label: (H, W) bool."""
    masks: dict[str, np.ndarray] = {}
    for region in regions:
        kind = region["type"]
        if kind not in (_BRUSH, _POLYGON):
            continue
        height, width = region["original_height"], region["original_width"]
        marked = np.zeros((height, width), dtype=np.uint8)
        if kind == _BRUSH:
            marked = brush.decode_rle(region["value"]["rle"]).reshape(height, width, 4)[..., 3]
        else:
            points = np.array(region["value"]["points"]) * (width, height) / 100
            cv2.fillPoly(marked, [np.rint(points).astype(np.int32)], 1)
        for label in region["value"][kind]:
            masks[label] = masks.get(label, False) | (marked > 0)
    return masks


def _in_label_studio(prediction: Prediction, kind: str, names: Mapping[str, str]) -> dict[str, Any]:
    """A prediction as Label Studio reads it; scores are mean probabilities of the pixels."""
    height, width = prediction.mask.shape
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    regions = []
    for number, (label, area) in enumerate(prediction.areas().items(), start=1):
        regions += [
            {**names, **size, "type": kind, "value": {**value, kind: [label]}, "score": area.probability}
            for value in _values(prediction.mask == number, kind)
        ]
    return {"result": regions, "score": max((region["score"] for region in regions), default=0.0)}


def _values(marked: np.ndarray, kind: str) -> Iterator[dict[str, Any]]:
    """Regions of (H, W) bool: one of the brush, or a polygon for each connected piece, in percent of the image."""
    if kind == _POLYGON:
        height, width = marked.shape
        for points in outline_polygons(marked):
            yield {"points": (100 * points / (width, height)).tolist(), "closed": True}
    elif marked.any():
        yield {"format": "rle", "rle": brush.mask2rle(255 * marked.astype(np.uint8))}
