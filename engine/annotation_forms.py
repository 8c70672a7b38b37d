"""Predictions as annotation tools read them: COCO's JSON for all, labelme's for one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_masks

from engine.predictions import Area, Prediction
from util.images.polygons import outline_polygons


class CocoPrediction(NamedTuple):
    """What COCO's JSON needs of a prediction: ``size`` (height, width), run lengths of each class that is marked."""

    file_name: str
    size: tuple[int, int]
    areas: Mapping[str, Area]
    counts: Mapping[str, str]


def run_lengths(prediction: Prediction) -> dict[str, str]:
    """The pixels of each class that is marked, as COCO's compressed run lengths (RLE)."""
    return {
        name: coco_masks.encode(np.asfortranarray(prediction.mask == number, dtype=np.uint8))["counts"].decode()
        for number, name in enumerate(prediction.probabilities, start=1)
        if (prediction.mask == number).any()
    }


def coco_content(predictions: Iterable[CocoPrediction], classes: Sequence[str]) -> dict[str, Any]:
    """The JSON: a category for each class, an annotation for each class that an image shows, with its score."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, prediction in enumerate(predictions, start=1):
        height, width = prediction.size
        images.append({"id": image_id, "file_name": prediction.file_name, "height": height, "width": width})
        for name, counts in prediction.counts.items():
            lengths, area = {"size": [height, width], "counts": counts}, prediction.areas[name]
            annotations.append(
                {
                    **{"id": len(annotations) + 1, "image_id": image_id, "category_id": classes.index(name) + 1},
                    **{"segmentation": lengths, "area": area.pixels, "bbox": coco_masks.toBbox(lengths).tolist()},
                    **{"iscrowd": 0, "score": round(area.confidence, 4)},
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def labelme_content(prediction: Prediction, image_path: str) -> dict[str, Any]:
    """The JSON for one image: a polygon for each connected piece, which drawn by labelme is exactly the mask.

    ``image_path`` is the image's, from the folder of the JSON on.
    """
    height, width = prediction.mask.shape
    areas = prediction.areas()
    shapes = [
        {
            **{"label": name, "points": polygon.astype(float).tolist(), "shape_type": "polygon"},
            **{"score": round(areas[name].confidence, 4), "group_id": None, "description": "", "flags": {}},
        }
        for number, name in enumerate(prediction.probabilities, start=1)
        for polygon in outline_polygons(prediction.mask == number)
    ]
    return {
        **{"version": "5.5.0", "flags": {}, "shapes": shapes},
        **{"imagePath": image_path, "imageData": None, "imageHeight": height, "imageWidth": width},
    }
