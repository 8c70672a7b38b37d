"""All masks of a session as one file: label PNGs, polygons of labelme, or COCO's format."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.annotation_forms import CocoPrediction, coco_content, labelme_content, run_lengths
from engine.prediction_names import output_names
from engine.predictions import Prediction
from util.errors import UserError
from util.images import write_label
from web.photographs import Marking
from web.sessions import Session


def masks_as_zip(session: Session, marking: Marking) -> bytes:
    """``NAME_mask.png`` for each photograph, 0 background and the numbers of classes, and ``classes.txt``.

    Photographs with neither a mask of the user's nor a predicted one are left out; raises ``UserError`` if all are.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, files = Path(folder) / "mask.png", {}
        for stem, _, prediction in _marked(session, marking):
            write_label(path, prediction.mask)
            files[f"{stem}_mask.png"] = path.read_bytes()
    return _zipped({**files, "classes.txt": "".join(f"{each}\n" for each in session.classes).encode()})


def masks_as_labelme(session: Session, marking: Marking) -> bytes:
    """``NAME.json`` for each photograph, with polygons of all its pixels. Raises what ``masks_as_zip`` does."""
    return _zipped(
        {
            f"{stem}.json": json.dumps(labelme_content(prediction, name)).encode()
            for stem, name, prediction in _marked(session, marking)
        }
    )


def masks_as_coco(session: Session, marking: Marking) -> bytes:
    """One JSON, with the pixels of each class as RLE. Raises what ``masks_as_zip`` does."""
    predictions = [
        CocoPrediction(name, prediction.mask.shape, prediction.areas(), run_lengths(prediction))
        for _, name, prediction in _marked(session, marking)
    ]
    return json.dumps(coco_content(predictions, session.classes)).encode()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _marked(session: Session, marking: Marking) -> Iterator[tuple[str, str, Prediction]]:
    """For each photograph a stem for names of files, no two alike, its own name, and what is marked in it."""
    masked = [each for each in session.photographs.values() if each.annotated_classes is not None or each.is_predicted]
    if not masked:
        raise UserError("no photograph has a mask yet; press Segment first")
    paths = {Path(str(each.number)) / _file_name(each.name): each for each in masked}
    names = output_names({path: Path(path.name) for path in paths})
    for path, photograph in paths.items():
        prediction = photograph.marked(session.classes, marking)
        if prediction is not None:
            yield names[path].replace("/", "_"), path.name, prediction


def _file_name(name: str) -> str:
    """The last part of a name, of letters that every system takes in a file's."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(letter if letter.isprintable() and letter not in '<>:"|?*' else "_" for letter in last)
    return kept.strip(". ") or "photograph"
