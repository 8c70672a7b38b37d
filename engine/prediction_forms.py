"""The forms in which a prediction is written: which files each has for a query, and what is in them."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.annotation_forms import labelme_content
from engine.predictions import Prediction
from util.files import write_json
from util.images import write_grey, write_image, write_label
from util.images.draw import reduced

FORMS = ("mask", "probability", "probability16", "overlay", "coco", "labelme", "sheet")
DEFAULT_FORMS = ("mask", "overlay", "sheet")
THUMBNAIL_SIDE = 240
# Highest level of a map of probability.
_LEVELS = {"probability": np.uint8(255), "probability16": np.uint16(65535)}


class PredictionFile(NamedTuple):
    """A file of a query, relative to the output folder; maps are of one class."""

    path: str
    form: str
    class_name: str | None = None


def files_of(name: str, classes: Collection[str], forms: Collection[str]) -> list[PredictionFile]:
    """The files of the query ``name`` in these forms; with several classes each has a map, which is called after it."""
    files = [PredictionFile(path_of(name, form), form) for form in forms if form in _PATHS]
    for form in (form for form in forms if form in _LEVELS):
        for each in classes:
            ending = "" if len(classes) == 1 else f"_{each}"
            files.append(PredictionFile(f"{name}_{form}{ending}.png", form, each))
    return files


_PATHS = {"mask": "{}_mask.png", "overlay": "{}_overlay.jpg", "labelme": "{}.json", "sheet": "thumbnails/{}.jpg"}


def path_of(name: str, form: str) -> str:
    """The file of the query ``name`` in a form that has one for each query: mask, overlay, labelme, sheet."""
    return _PATHS[form].replace("{}", name)


def write_files(folder: Path, files: Sequence[PredictionFile], query: Path, prediction: Prediction) -> None:
    """Write the ``files`` of a prediction: all pictures but the sheet's thumbnail have the size of the query."""
    overlay = prediction.overlay() if {"overlay", "sheet"} & {file.form for file in files} else None
    for file in files:
        path = folder / file.path
        if file.class_name is not None:
            highest = _LEVELS[file.form]
            levels = np.rint(float(highest) * prediction.probabilities[file.class_name])
            write_grey(path, levels.astype(highest.dtype))
        elif file.form == "mask":
            write_label(path, prediction.mask)
        elif file.form == "labelme":
            image_path = os.path.relpath(query, start=path.parent)
            write_json(path, labelme_content(prediction, image_path))
        elif overlay is not None:
            write_image(path, overlay if file.form == "overlay" else reduced(overlay, THUMBNAIL_SIDE))
