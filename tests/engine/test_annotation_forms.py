"""engine.annotation_forms: COCO's own reader understands its JSON; labelme's names the image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO

from engine.annotation_forms import CocoPrediction, coco_content, labelme_content, run_lengths
from engine.predictions import Prediction

MASK = np.zeros((30, 40), dtype=np.uint8)
MASK[5:20, 10:30], MASK[10:15, 15:20], MASK[25:, :7] = 2, 0, 2
MAPS = {"ant": np.zeros(MASK.shape, dtype=np.float32), "bee": np.full(MASK.shape, 0.75, dtype=np.float32)}
PREDICTION = Prediction(np.zeros((30, 40, 3), dtype=np.uint8), MASK, MAPS, {"ant": 0.1, "bee": None})


def test_cocos_reader_finds_the_pixels(tmp_path: Path) -> None:
    lengths = run_lengths(PREDICTION)
    assert list(lengths) == ["bee"]
    rows = [CocoPrediction(name, (30, 40), PREDICTION.areas(), lengths) for name in ("a.jpg", "b/c.jpg")]
    (tmp_path / "coco.json").write_text(json.dumps(coco_content(rows, ["ant", "bee"])))
    coco = COCO(str(tmp_path / "coco.json"))
    assert [coco.imgs[number]["file_name"] for number in (1, 2)] == ["a.jpg", "b/c.jpg"]
    (annotation,) = coco.imgToAnns[2]
    assert np.array_equal(coco.annToMask(annotation), MASK == 2)
    assert coco.cats[annotation["category_id"]]["name"] == "bee"
    assert annotation["area"] == (MASK == 2).sum() and annotation["bbox"] == [0, 5, 30, 25]
    assert annotation["score"] == 0.75


def test_labelmes_shapes_are_pieces() -> None:
    content = labelme_content(PREDICTION, "../x.jpg")
    assert content["imagePath"] == "../x.jpg" and (content["imageHeight"], content["imageWidth"]) == (30, 40)
    assert [(shape["label"], shape["shape_type"], shape["score"]) for shape in content["shapes"]] == [
        ("bee", "polygon", 0.75)
    ] * 2
    assert json.loads(json.dumps(content)) == content
