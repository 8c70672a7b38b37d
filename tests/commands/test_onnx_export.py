"""ONNX files against PyTorch, image by image; and what the graph does around the network against NumPy and OpenCV."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import commands.onnx_export
from commands.onnx_export import content_sides, letterboxed, likely_mask
from engine.predictions import mask_of_classes
from episodes.transforms import ValTransform, content_size
from model import FSSModel
from model.baselines import Baseline
from segmenter import Segmenter
from tests.masks.small_images import draw_image
from tests.model.networks import SETTINGS, tiny_backbone
from util.errors import UserError
from util.files import PROJECT

SIZE = 65
SIZES = [(120, 160), (97, 61), (3, 200), (SIZE, SIZE), (1, 1)]


def network() -> FSSModel:
    """All parts of a network, none of them without effect; it can tell which of its classes are there."""
    settings = {"class_scores": True, "contrast_residual": True, "val_size": SIZE}
    torch.manual_seed(3)
    model = FSSModel.from_settings(SETTINGS.model_copy(update=settings), backbone_weights=None)
    for parameter in model.classifier[-1].parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.presence_calibration = torch.tensor([60.0, -57.0])
    return model


def fitted(model: FSSModel | Baseline) -> Segmenter:
    """A class of two shots; of a method without training, whose graph is small, one more class."""
    segmenter = Segmenter(model, SIZE)
    disc = np.hypot(*np.mgrid[-60:60, -80:80]) < 35
    segmenter.fit([draw_image(1), draw_image(2)], [disc, disc], name="disc")
    if isinstance(model, Baseline):
        segmenter.fit(draw_image(3), np.arange(120 * 160).reshape(120, 160) < 5000, name="top")
    return segmenter


@pytest.fixture(scope="module", params=["network", "nearest"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Segmenter, Path]:
    """A segmenter and its file."""
    model = network() if request.param == "network" else Baseline("nearest", tiny_backbone()).eval()
    segmenter, path = fitted(model), tmp_path_factory.mktemp("onnx") / "segmenter.onnx"
    segmenter.export(path)
    return segmenter, path


@pytest.mark.parametrize("size", SIZES)
def test_the_file_gives_what_pytorch_gives(
    exported: tuple[Segmenter, Path], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter, path = exported
    image = draw_image(4, *size)
    outputs = onnxruntime.InferenceSession(path).run(None, {"image": image.transpose(2, 0, 1)[None]})
    probabilities, presence, mask = outputs
    classes = len(segmenter.classes)
    assert [(each.shape, each.dtype) for each in outputs] == [
        ((1, classes, *size), np.float32), ((1, classes), np.float32), ((1, *size), np.uint8)
    ]  # fmt: skip
    monkeypatch.setattr("segmenter.refined", lambda difference, _: 1 / (1 + np.exp(-difference)))
    expected = segmenter.predict(image)
    for of_file, of_torch in zip(probabilities[0], expected.probabilities.values(), strict=True):
        np.testing.assert_allclose(of_file, of_torch, atol=1e-4)
    there = [float("nan") if each is None else each for each in expected.presence.values()]
    np.testing.assert_allclose(presence[0], there, atol=1e-4)
    for value in range(classes + 1):
        of_file, of_torch = mask[0] == value, expected.mask == value
        assert (of_file & of_torch).sum() >= 0.99 * (of_file | of_torch).sum()


def test_the_network_marks_and_leaves_out_classes() -> None:
    """Else the masks above would show little."""
    predictions = [fitted(network()).predict(draw_image(4, *size)) for size in SIZES]
    assert {int(value) for prediction in predictions for value in np.unique(prediction.mask)} == {0, 1}
    there = [prediction.presence["disc"] or 0 for prediction in predictions]
    assert 0 < min(there) < 0.4 and max(there) > 0.6


def test_the_file_knows_its_classes_and_no_folder(exported: tuple[Segmenter, Path]) -> None:
    segmenter, path = exported
    metadata = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == segmenter.classes
    assert str(PROJECT).encode() not in path.read_bytes()
    assert [each.name for each in path.parent.iterdir()] == [path.name]  # all is in one file


def test_an_image_is_letterboxed_as_for_training() -> None:
    rng = np.random.default_rng(0)
    for size in (33, 65, 257):
        for height, width in [(1, 1), (7, 900), (size, size), *rng.integers(1, 700, (8, 2)).tolist()]:
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            view = ValTransform(size=size)(image, np.zeros((height, width), dtype=np.uint8))
            sides = torch.tensor([height, width])
            images, padding = letterboxed(
                torch.from_numpy(image.transpose(2, 0, 1))[None], sides, content_sides(sides, size), size
            )
            assert torch.equal(padding[0], view.padding)
            torch.testing.assert_close(images[0], view.image, atol=1e-3, rtol=0)


def test_the_content_has_the_sides_of_the_letterbox() -> None:
    for height, width in np.random.default_rng(1).integers(1, 20000, (500, 2)).tolist():
        for size in (65, 257, 473):
            assert tuple(content_sides(torch.tensor([height, width]), size).tolist()) == content_size(
                height, width, size
            )


def test_the_mask_is_that_of_the_most_probable_class() -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.choice([0.2, 0.5, 0.51, 0.8, 0.9], (4, 20, 30)).astype(np.float32)
    presence = [0.7, math.nan, 0.1, 0.5]
    names = ["a", "b", "c", "d"]
    expected = mask_of_classes(
        dict(zip(names, probabilities, strict=True)), present=["a", "b", "d"], threshold=0.5, min_area=0
    )
    mask = likely_mask(torch.from_numpy(probabilities)[None], torch.tensor([presence]))
    assert np.array_equal(mask[0].numpy(), expected) and set(np.unique(expected)) == {0, 1, 2, 4}


def test_a_missing_package_and_too_many_supports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="Segmenter: no class yet; call fit"):
        Segmenter(network(), SIZE).export(tmp_path / "x.onnx")
    segmenter = fitted(Baseline("prototype", tiny_backbone()).eval())
    with monkeypatch.context() as patch:
        patch.setattr(commands.onnx_export, "_MOST_BYTES", 1000)
        with pytest.raises(UserError, match=r"x\.onnx: the network and its supports take 0\.0 GiB, an ONNX file holds"):
            segmenter.export(tmp_path / "x.onnx")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(UserError, match=r"x\.onnx: export needs onnxscript; uv pip install -r pyproject\.toml --extra"):
        segmenter.export(tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
