"""All masks of a session as one file: label PNGs, or COCO's format."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from pycocotools import mask as coco_mask

from engine.prediction_files import output_names
from util.errors import UserError
from util.images import write_label
from web.photographs import Marking, Photograph
from web.sessions import Session


def masks_as_zip(session: Session, marking: Marking) -> bytes:
    """``NAME_mask.png`` for each photograph, 0 background and the numbers of classes, and ``classes.txt``.

    Photographs with neither a mask of the user's nor a predicted one are left out; raises ``UserError`` if all are.
    """
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w") as archive,  # PNGs are compressed already
        tempfile.TemporaryDirectory() as folder,
    ):
        for name, photograph in _named(session):
            path = Path(folder) / "mask.png"
            write_label(path, photograph.mask(marking))
            archive.writestr(f"{Path(name).with_suffix('')}_mask.png", path.read_bytes())
        archive.writestr("classes.txt", "".join(f"{each}\n" for each in session.classes))
    return stream.getvalue()


def masks_as_coco(session: Session, marking: Marking) -> bytes:
    """COCO's JSON: an annotation for each class of a photograph, its pixels as RLE. Raises what ``masks_as_zip`` does.

    ``score`` is the confidence in a prediction; a mask of the user's has none.
    """
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for image_id, (name, photograph) in enumerate(_named(session), start=1):
        height, width = photograph.size
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        mask = photograph.mask(marking)
        confidence = photograph.shown(len(session.classes), marking).confidence
        score = {} if confidence is None else {"score": round(confidence, 4)}
        for number in (number for number in np.unique(mask).tolist() if number):
            rle = coco_mask.encode(np.asfortranarray(mask == number))
            annotations.append(
                {
                    **{"id": len(annotations) + 1, "image_id": image_id, "category_id": number, "iscrowd": 0},
                    "segmentation": {"size": [height, width], "counts": rle["counts"].decode("ascii")},
                    "area": int(coco_mask.area(rle)),
                    "bbox": coco_mask.toBbox(rle).tolist(),
                    **score,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(session.classes, start=1)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()


def _named(session: Session) -> Iterator[tuple[str, Photograph]]:
    """The photographs that have masks, with names for files: no folders, and no two alike."""
    masked = [each for each in session.photographs.values() if each.annotated_classes is not None or each.is_predicted]
    if not masked:
        raise UserError("no photograph has a mask yet; press Segment first")
    plain = {Path(str(each.number)) / _file_name(each.name): each for each in masked}
    names = output_names({path: Path(path.name) for path in plain})
    for path, photograph in plain.items():
        yield f"{PurePosixPath(names[path]).as_posix().replace('/', '_')}{path.suffix}", photograph


def _file_name(name: str) -> str:
    """The last part of a name, of letters that every system takes in a file's."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(letter if letter.isprintable() and letter not in '<>:"|?*' else "_" for letter in last)
    return kept.strip(". ") or "photograph"
