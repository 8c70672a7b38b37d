"""The object in Python: what it marks, what it takes, and that it marks what ``predict.py`` does."""

from __future__ import annotations

import math
import re
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import predict as predict_command
from engine.evaluate import object_probability
from engine.run_folder import save_checkpoint
from engine.untrained import METHODS
from episodes.transforms import ValTransform, content_size
from masks.superpixels.refinement import refined
from model import FSSModel
from model.baselines import Baseline
from model.checkpoints import CHECKPOINT_VERSION
from model.frozen.backbone import Backbone, build_backbone
from model.fss_network import NetworkSettings
from model.presence import describe_objects, describe_queries, presence_in_folder
from segmenter import Segmenter
from tests.masks.small_images import write_extractor
from tests.model.networks import SETTINGS, tiny_backbone, tiny_model
from util.config import load_config
from util.errors import UserError
from util.files import PROJECT
from util.images import read_image, read_label, write_image, write_label

SIZE = 129
NETWORK = "mobilenetv2_035"
RED, BLUE = (230, 60, 40), (30, 60, 230)


def scene(**squares: tuple[int, tuple[int, int, int]]) -> np.ndarray:
    """A green image, (90, 160, 3), with squares of 40 pixels: name=(left, colour)."""
    image = np.full((90, 160, 3), (40, 90, 40), dtype=np.uint8)
    for left, colour in squares.values():
        image[25:65, left : left + 40] = colour
    return image


def square(left: int) -> np.ndarray:
    """The mask of a square: bool (90, 160)."""
    mask = np.zeros((90, 160), dtype=bool)
    mask[25:65, left : left + 40] = True
    return mask


BOTH = scene(red=(20, RED), blue=(100, BLUE))


def segmenter(model: FSSModel | Baseline | None = None) -> Segmenter:
    """Of a network that is the nearest method, with the class red."""
    of_model = Segmenter(tiny_model(contrast_residual=True) if model is None else model, SIZE)
    of_model.fit(scene(red=(60, RED)), square(60), name="red")
    return of_model


def calibrated(intercept: float) -> FSSModel:
    """A network that says from the similarity how likely it is that an object is there."""
    model = tiny_model(contrast_residual=True)
    model.presence_calibration = torch.tensor([1.0, intercept])
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the example of README.md names: a run folder, photographs and masks; and weights of a backbone."""
    root = tmp_path_factory.mktemp("segmenter")
    overrides = [f"TRAIN.backbone={NETWORK}", "TRAIN.hidden_dims=16", "TRAIN.contrast_residual=true"]
    config = load_config("shapes", "ssl_demo", [*overrides, f"TRAIN.val_size={SIZE}"]).model_dump(mode="json")
    parts = {"version": CHECKPOINT_VERSION, "config": config, "epoch": 0, "label_use": "none"}
    run = root / "exp" / "mine" / "ssl_mobilenetv2"
    run.mkdir(parents=True)
    save_checkpoint(run / "latest.pth", {**parts, "model": tiny_model(contrast_residual=True).state_dict()})
    for name, left, colour in (("a", 10, RED), ("b", 60, RED), ("c", 90, BLUE), ("new", 100, RED)):
        write_image(root / f"{name}.png", scene(one=(left, colour)))
        Image.fromarray(scene(one=(left, colour))).save(root / f"{name}.jpg")
        write_label(root / f"{name}_mask.png", square(left).astype(np.uint8))
    write_extractor(root / "backbone.pth", NETWORK)
    return root


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize("method", ["network", "nearest", "prototype"])
def test_one_class_is_the_network_on_an_episode(method: str, shots: int) -> None:
    """To the last bit, as if the supports were described anew for the query."""
    model = tiny_model(contrast_residual=True) if method == "network" else Baseline(method, tiny_backbone()).eval()
    lefts = [10, 60, 110][:shots]
    of_model = Segmenter(model, SIZE)
    of_model.fit([scene(red=(left, RED)) for left in lefts], [square(left) for left in lefts])
    prediction = of_model.predict(BOTH, presence=None)
    views = [ValTransform(size=SIZE)(scene(red=(left, RED)), square(left).astype(np.uint8)) for left in lefts]
    query = ValTransform(size=SIZE)(BOTH, np.zeros(BOTH.shape[:2], dtype=np.uint8))
    images, masks, padding = (torch.stack(part)[None] for part in zip(*views, strict=True))
    with torch.inference_mode():
        logits = model(query.image[None], images, masks, query.padding[None], padding)[0]
    own_size = partial(content_size, size=SIZE)
    expected = object_probability(logits, (90, 160), own_size, torch.from_numpy(BOTH), refined).numpy()
    assert np.array_equal(prediction.probabilities["object"], expected)
    assert prediction.probabilities["object"].dtype == np.float32
    assert np.array_equal(prediction.mask, expected > 0.5) and prediction.mask.dtype == np.uint8


def test_it_marks_what_the_command_marks(folder: Path) -> None:
    of_folder = Segmenter.load(folder / "exp/mine/ssl_mobilenetv2")
    of_folder.fit([folder / "a.png", folder / "b.png"], [folder / "a_mask.png", folder / "b_mask.png"])
    prediction = of_folder.predict(folder / "new.png")
    supports = [word for name in "ab" for word in ("--support", folder / f"{name}.png", folder / f"{name}_mask.png")]
    words: list[object] = ["--checkpoint", folder / "exp/mine/ssl_mobilenetv2/latest.pth", *supports]
    words += ["--query", folder / "new.png", "--output", folder / "out", "--write", "mask", "probability", "overlay"]
    predict_command.main([str(word) for word in words])
    assert np.array_equal(read_label(folder / "out/new_mask.png"), prediction.mask)
    grey = read_image(folder / "out/new_probability.png")[..., 0]
    assert np.array_equal(grey, np.rint(255 * prediction.probabilities["object"]).astype(np.uint8))
    write_image(folder / "overlay.jpg", prediction.overlay())
    assert (folder / "out/new_overlay.jpg").read_bytes() == (folder / "overlay.jpg").read_bytes()


def test_several_classes_have_numbers_in_the_order_of_fit() -> None:
    of_both = Segmenter(tiny_model(contrast_residual=True), SIZE)
    of_both.fit(BOTH, square(20), name="red")
    alone = of_both.predict(BOTH)
    of_both.fit(BOTH, square(100), name="blue")
    assert of_both.classes == ["red", "blue"]
    prediction = of_both.predict(BOTH)
    assert (prediction.mask[30:60, 25:55] == 1).mean() > 0.9
    assert (prediction.mask[30:60, 105:135] == 2).mean() > 0.9
    red, blue = prediction.probabilities.values()
    expected = np.where(np.maximum(red, blue) > 0.5, np.where(blue > red, 2, 1), 0)
    assert np.array_equal(prediction.mask, expected)
    assert np.array_equal(red, alone.probabilities["red"])
    assert not of_both.predict(BOTH, threshold=0.999999).mask.any()
    of_both.fit(BOTH, square(100), name="red")
    assert of_both.classes == ["red", "blue"]
    assert (of_both.predict(BOTH).mask[30:60, 105:135] == 1).mean() > 0.9


def test_pieces_that_are_small_are_left_out() -> None:
    image = scene(red=(20, RED))
    whole = segmenter().predict(image)
    pixels = whole.areas()["red"].pixels
    assert 1000 < pixels < 3000 and whole.areas()["red"].share == pixels / (90 * 160)
    assert np.array_equal(segmenter().predict(image, min_area=500).mask, whole.mask)
    assert segmenter().predict(image, min_area=pixels + 1).areas()["red"] == (None, 0, 0, None)


def test_a_class_that_is_probably_not_there_marks_nothing() -> None:
    likely, unlikely = (segmenter(calibrated(intercept)) for intercept in (10.0, -10.0))
    found = likely.predict(BOTH)
    assert found.presence["red"] is not None and found.presence["red"] > 0.99 and found.mask.any()
    lost = unlikely.predict(BOTH)
    assert lost.presence["red"] is not None and lost.presence["red"] < 0.01 and not lost.mask.any()
    assert np.array_equal(lost.probabilities["red"], found.probabilities["red"])
    for presence in (None, 1e-6):
        assert np.array_equal(unlikely.predict(BOTH, presence=presence).mask, found.mask)


def with_classifier() -> Backbone:
    torch.manual_seed(0)
    return build_backbone(NETWORK, weights=None, normalize="imagenet", mid_stages=[-2], class_scores=True)


def test_ten_images_are_judged_by_each_other() -> None:
    """Also with a method without training, which cannot judge one image."""
    backbone, transform = with_classifier(), ValTransform(size=SIZE)
    images = [scene(red=(10 * number, RED), blue=(110 - 10 * number, BLUE)) for number in range(10)]
    of_both = segmenter(Baseline("nearest", backbone))
    of_both.fit(BOTH, square(100), name="blue")
    looks = [of_both.look(image) for image in images]
    assert of_both.presence_in(looks[:9]) == [{"red": None, "blue": None}] * 9
    assert not of_both.compares(9) and of_both.compares(10)
    objects = []
    for image, left in ((scene(red=(60, RED)), 60), (BOTH, 100)):
        shot = transform(image, square(left).astype(np.uint8))
        objects.append(
            describe_objects(backbone, *(part[None, None] for part in (shot.image, shot.mask, shot.padding)))
        )
    views = [transform(image, np.zeros((90, 160), dtype=np.uint8)) for image in images]
    queries = [describe_queries(backbone, view.image[None], view.padding[None])[0] for view in views]
    asked = torch.ones(2, 10, dtype=torch.bool)
    expected = presence_in_folder(torch.cat(objects), queries, asked, threshold=-math.inf)
    probabilities = torch.sigmoid(20 * (expected.similarities - expected.thresholds[:, None]))
    found = of_both.presence_in(looks)
    for name, row in zip(("red", "blue"), probabilities, strict=True):
        assert [there[name] for there in found] == pytest.approx(row.tolist(), abs=1e-5)


def test_what_is_found_among_other_images_counts() -> None:
    of_red = segmenter(calibrated(intercept=10.0))
    assert of_red.predict(BOTH).mask.any()
    prediction = of_red.predict(BOTH, found={"red": 0.3})
    assert prediction.presence == {"red": 0.3} and not prediction.mask.any()
    assert of_red.predict(BOTH, found={"red": 0.3}, presence=0.2).mask.any()


def test_the_surest_images_are_further_supports_as_they_are_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times, each by what the supports of before say; none that is a support already, and none that is gone."""
    colours = {"red": RED, "blue": BLUE}
    supports = {name: scene(one=(60, colour)) for name, colour in colours.items()}

    def of_both_with(numbers: dict[str, list[int]], before: Segmenter | None = None) -> Segmenter:
        """With the further images of each class, as they are predicted by the segmenter of before."""
        of_both = Segmenter(tiny_model(contrast_residual=True), SIZE)
        for name, rows in numbers.items():
            masks = [before.predict(images[row]).probabilities[name] > 0.5 for row in rows] if before else []
            of_both.fit([supports[name], *(images[row] for row in rows)], [square(60), *masks], name=name)
        return of_both

    images = [scene(one=(left, colours[name])) for name in colours for left in (40, 50, 70)] + [supports["red"]]
    rounds = [
        ((0.7, 0.9, 0.8, 0.1, 0.5, 0.2, 0.95), (0.1, None, 0.5, 0.6, 0.9, 0.99, 0.2)),
        ((0.7, 0.9, 0.4, 0.1, 0.5, 0.2, 0.95), (0.1, None, 0.5, 0.4, 0.9, 0.99, 0.2)),
        ((0.7, 0.2, 0.9, 0.1, 0.5, 0.2, 0.95), (0.1, None, 0.5, 0.3, 0.2, 0.99, 0.2)),
    ]
    taken = [{"red": [1, 2, 0], "blue": [4, 3]}, {"red": [1, 0], "blue": [4]}, {"red": [2, 0], "blue": []}]
    found = [[dict(zip(colours, each, strict=True)) for each in zip(*both, strict=True)] for both in rounds]
    given = of_both_with({name: [] for name in colours})
    monkeypatch.setattr(Segmenter, "_calibration", torch.tensor([1.0, 0.0]))
    monkeypatch.setattr(given, "presence_in", lambda _: found.pop(0))
    looks = [torch.zeros(1, 1)] * 100
    assert given.extend(looks[1:], images.__getitem__) == {"red": [], "blue": []}
    assert given.extend(looks, lambda number: None if number == 5 else images[number]) == taken[-1] and not found
    first = expected = of_both_with({name: [] for name in colours})
    for numbers in taken:
        expected = of_both_with(numbers, expected)
    for name in colours:
        before, after, wanted = (each.predict(BOTH).probabilities[name] for each in (first, given, expected))
        assert np.array_equal(after, wanted) and np.array_equal(after, before) == (name == "blue")


def test_five_supports_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    of_five = Segmenter(tiny_model(contrast_residual=True), SIZE)
    of_five.fit([BOTH] * 5, [square(20)] * 5)
    before = of_five.predict(scene(red=(60, RED))).probabilities["object"]
    monkeypatch.setattr(Segmenter, "_calibration", torch.tensor([1.0, 0.0]))
    monkeypatch.setattr(of_five, "presence_in", lambda _: [{"object": 1.0}])
    assert of_five.extend([torch.zeros(1, 1)] * 100, lambda _: scene(red=(60, RED))) == {"object": []}
    assert np.array_equal(of_five.predict(scene(red=(60, RED))).probabilities["object"], before)


@pytest.mark.parametrize("model", [tiny_model(contrast_residual=True), Baseline("nearest", tiny_backbone()).eval()])
def test_without_calibration_every_class_marks(model: FSSModel | Baseline) -> None:
    prediction = segmenter(model).predict(BOTH, presence=0.99)
    assert prediction.presence == {"red": None} and prediction.mask.any()


def test_where_a_class_would_be_is_computed_when_it_is_asked_for() -> None:
    model, seen = calibrated(intercept=10.0), list[int]()
    of_red = segmenter(model)
    model.backbone.register_forward_hook(lambda _, images, __: seen.append(len(images[0])))
    lost = of_red.predict(BOTH, found={"red": 0.1})
    assert not seen and not lost.mask.any() and lost.areas()["red"].probability is None
    of_red.fit(scene(blue=(60, BLUE)), square(60), name="red")
    described = len(seen)
    asked = [lost.probabilities["red"] for _ in range(2)]
    assert len(seen) == described + 1 and asked[0] is asked[1]
    assert np.array_equal(asked[0], segmenter(calibrated(intercept=10.0)).predict(BOTH).probabilities["red"])


def test_supports_are_described_once_and_a_query_for_all_classes() -> None:
    model, seen = tiny_model(contrast_residual=True), list[int]()
    model.backbone.register_forward_hook(lambda _, images, __: seen.append(len(images[0])))
    of_both = segmenter(model)
    of_both.fit([scene(blue=(60, BLUE))] * 3, [square(60)] * 3, name="blue")
    assert seen == [1, 3]
    for _ in range(2):
        of_both.predict(BOTH)
    assert seen == [1, 3, 1, 1]


@pytest.mark.parametrize("image", [Path, str, read_image, Image.open, lambda path: np.asarray(Image.open(path))])
@pytest.mark.parametrize(
    "mask",
    [
        *(Path, str, read_label, Image.open),
        lambda path: read_label(path) > 0,
        lambda path: read_label(path) * np.uint8(255),
        lambda path: Image.fromarray(read_label(path) > 0),
    ],
)
def test_files_arrays_and_images_of_pillow_mean_the_same(
    folder: Path, image: Callable[[Path], object], mask: Callable[[Path], object]
) -> None:
    expected = segmenter()
    expected.fit(folder / "a.png", folder / "a_mask.png")
    given = segmenter()
    given.fit(image(folder / "a.png"), mask(folder / "a_mask.png"))  # type: ignore[arg-type]
    probabilities = given.predict(image(folder / "new.png")).probabilities["object"]  # type: ignore[arg-type]
    assert np.array_equal(probabilities, expected.predict(folder / "new.png").probabilities["object"])


def test_an_image_of_pillow_is_turned_as_its_file_is(folder: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # the orientation
    Image.fromarray(BOTH).save(folder / "turned.png", exif=exif)
    predictions = [segmenter().predict(given) for given in (folder / "turned.png", Image.open(folder / "turned.png"))]
    assert predictions[0].mask.shape == (160, 90)
    assert np.array_equal(predictions[0].mask, predictions[1].mask)


def test_a_method_without_training_needs_a_backbone_alone(folder: Path) -> None:
    words = [f"TRAIN.backbone={NETWORK}", f"TRAIN.backbone_weights={folder / 'backbone.pth'}"]
    nearest, prototype = (fitted(method, words).predict(BOTH).probabilities["red"] for method in METHODS)
    assert not np.array_equal(nearest, prototype)
    assert np.array_equal(fitted("nearest", words).predict(BOTH).probabilities["red"], nearest)
    with pytest.raises(UserError, match=r"none\.pth: no weights of the backbone; initmodel/README\.md says where"):
        Segmenter.load(method="nearest", backbone=["TRAIN.backbone_weights=none.pth"])


def fitted(method: str, words: list[str]) -> Segmenter:
    of_method = Segmenter.load(method=method, backbone=words)
    of_method.fit(scene(red=(60, RED)), square(60), name="red")
    return of_method


def test_a_run_folder_its_checkpoint_and_a_shared_folder_are_one_network(folder: Path, tmp_path: Path) -> None:
    run = folder / "exp/mine/ssl_mobilenetv2"
    settings = NetworkSettings(**{**SETTINGS.model_dump(), "val_size": SIZE})
    model = FSSModel.from_settings(settings, backbone_weights=None)
    model.save_pretrained(tmp_path / "shared")
    assert Segmenter.load(run).digest() == Segmenter.load(str(run / "latest.pth")).digest()
    assert Segmenter.load(tmp_path / "shared").digest() == Segmenter(model.eval(), SIZE).digest()
    assert Segmenter.load(run).digest() != Segmenter(model, SIZE).digest() != Segmenter(model, 65).digest()
    with pytest.raises(UserError, match=f"{tmp_path}: neither a run folder with latest.pth nor a shared network"):
        Segmenter.load(tmp_path)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda s: s.fit([BOTH], [square(20), square(20)], "x"), "class x: 1 images and 2 masks; give one mask for"),
        (lambda s: s.fit([], [], "x"), "class x: 0 images and 0 masks"),
        (lambda s: s.fit(BOTH, square(20)[:80], "x"), r"mask of support 1 of class x: the label is 160x80 pixels"),
        (lambda s: s.fit(BOTH, np.zeros((90, 160)), "x"), "mask of support 1 of class x: marks no object"),
        (lambda s: s.fit("none.jpg", "none.png"), r"none\.jpg: image not found"),
        (lambda s: s.fit(BOTH, 3), "mask of support 1 of class object: a int; expected a path"),
        (lambda s: s.predict(BOTH / 255), r"the image: an array of float64 \(90, 160, 3\); expected a path"),
        (lambda s: s.predict(BOTH[:0]), r"the image: an array without pixels, \(0, 160, 3\)"),
        (lambda s: s.predict(Image.new("F", (9, 9))), "the image: an image of mode F; convert it to RGB"),
        (lambda s: s.predict(None), "the image: a NoneType; expected a path"),
        (lambda s: s.predict(BOTH, presence=50), "presence=50 is no probability; expected 0 to 1"),
        (lambda s: Segmenter(tiny_model(), SIZE).predict(BOTH), "no class yet; call fit"),
        (lambda s: Segmenter.load(), "give either a checkpoint or method="),
        (lambda s: Segmenter.load("c.pth", method="nearest"), "give either a checkpoint or method="),
        (lambda s: Segmenter.load("c.pth", backbone=["TRAIN.backbone=x"]), "a checkpoint has its backbone"),
        (lambda s: Segmenter.load("c.pth"), r"c\.pth: no checkpoint here"),
        (lambda s: Segmenter.load(method="moon"), "method moon: unknown; choose one of nearest, prototype"),
    ],
)
def test_mistakes(action: Callable[[Segmenter], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        action(segmenter())


def test_the_example_of_the_readme(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(folder)
    Path("example.py").write_text(example)
    names = runpy.run_path("example.py")
    assert names["segmenter"].classes == ["dog", "cat"]
    result = names["result"]
    assert result.mask.shape == (90, 160)
    assert set(result.probabilities) == set(result.presence) == {"dog", "cat"}
