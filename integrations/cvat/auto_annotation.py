"""Auto-annotation for CVAT: what annotated images show is marked in the frames of a task (docs/integrations.md).

``cvat-cli`` loads this file and calls ``create`` with the parameters that it is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cvat_sdk.auto_annotation as cvataa
import numpy as np
from cvat_sdk.masks import encode_mask
from PIL import Image

from commands.prediction.inputs import find_supports, read_supports
from segmenter import Segmenter
from util.images.polygons import outline_polygons


def create(supports: str, checkpoint: str | None = None, method: str | None = None, backbone: str = "") -> Detection:
    """The function that CVAT calls, from words of ``predict.py``.

    ``supports`` is a folder with a folder for each class, which is called as the label in CVAT; ``checkpoint`` or
    ``method`` the model, ``backbone`` the ``KEY=VALUE`` words of a method. Raises ``UserError``.
    """
    segmenter = Segmenter.load(checkpoint, method=method, backbone=backbone.split())
    for name, shots in read_supports(find_supports(Path(supports))).items():
        segmenter.describe(name, shots)
    return Detection(segmenter)


class Detection:
    """A detection function as CVAT's SDK defines it: ``spec`` has the labels, ``detect`` marks a frame."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        labels = [cvataa.label_spec(name, number, type="mask") for number, name in enumerate(segmenter.classes, 1)]
        self.spec = cvataa.DetectionFunctionSpec(labels=labels)

    def detect(self, context: cvataa.DetectionFunctionContext, image: Image.Image) -> list[Any]:
        """A mask for each class that is in the image; polygons of its pieces where CVAT asks for them.

        The confidence that CVAT's threshold is compared with is the presence of a class.
        """
        presence = 0.5 if context.conf_threshold is None else context.conf_threshold
        mask = self._segmenter.predict(image, presence=presence).mask
        shapes: list[Any] = []
        for number in np.unique(mask[mask > 0]).tolist():
            if context.conv_mask_to_poly:
                shapes += [
                    cvataa.polygon(number, points.ravel().tolist()) for points in outline_polygons(mask == number)
                ]
            else:
                shapes.append(cvataa.mask(number, encode_mask(mask == number)))
        return shapes
