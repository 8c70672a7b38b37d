"""Drawing the label of an image from its COCO annotations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pycocotools import mask as coco_masks

from prepare.coco.annotations import AnnotatedImage, Annotation
from prepare.coco.segmentation import RunLengths
from util.images import IGNORE


def draw_label(image: AnnotatedImage, classes: Mapping[int, int], *, ignore_crowds: bool) -> np.ndarray:
    """The label of an image, uint8 (height, width): 0 background, else the class of the topmost annotation.

    ``classes`` maps category ids to classes. Of two annotations, the one with fewer pixels lies on top; of two with
    equally many, the one with the higher id. ``ignore_crowds`` makes crowds 255, in the same order.
    """
    masks = [_encode(annotation, image) for annotation in image.annotations]
    areas = coco_masks.area(masks)
    order = sorted(range(len(masks)), key=lambda row: (-int(areas[row]), image.annotations[row].id))
    label = np.zeros((image.height, image.width), dtype=np.uint8, order="F")  # as masks are decoded
    for row in order:
        annotation = image.annotations[row]
        value = IGNORE if ignore_crowds and annotation.crowd else classes[annotation.category]
        np.copyto(label, np.uint8(value), where=coco_masks.decode(masks[row]).view(bool))
    return np.ascontiguousarray(label)


def _encode(annotation: Annotation, image: AnnotatedImage) -> dict[str, object]:
    """The annotation's mask as pycocotools' compressed run lengths; polygons are clipped and joined."""
    segmentation = annotation.segmentation
    if isinstance(segmentation, RunLengths):
        return coco_masks.frPyObjects(segmentation._asdict(), image.height, image.width)
    return coco_masks.merge(coco_masks.frPyObjects(segmentation, image.height, image.width))
