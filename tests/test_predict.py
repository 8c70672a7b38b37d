"""A user's own images through the command: files, sizes, kinds of masks, mistakes."""

import csv
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import predict as predict_command
from commands.prediction.inputs import find_queries, find_supports, read_supports
from engine.prediction_files import PredictionFolder
from engine.predictions import Prediction
from engine.run_folder import save_checkpoint
from model.checkpoints import CHECKPOINT_VERSION
from model.frozen.backbone import build_backbone
from segmenter import Segmenter
from tests.masks.small_images import write_extractor
from tests.model.networks import tiny_model
from util.config import load_config
from util.errors import UserError, run_command
from util.images import read_image, read_label, write_image, write_label


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained network that is the nearest method, images and a mask."""
    root = tmp_path_factory.mktemp("predict")
    overrides = ["TRAIN.backbone=mobilenetv2_035", "TRAIN.hidden_dims=16", "TRAIN.contrast_residual=true"]
    config = load_config("shapes", "ssl_demo", [*overrides, "TRAIN.val_size=129"]).model_dump(mode="json")
    model = tiny_model(contrast_residual=True).state_dict()
    parts = {"version": CHECKPOINT_VERSION, "config": config, "model": model, "epoch": 0, "label_use": "none"}
    save_checkpoint(root / "c.pth", parts)
    for name, left in (("support", 20), ("query", 60)):
        image = np.full((90, 120, 3), (40, 90, 40), dtype=np.uint8)
        image[20:70, left : left + 45] = (230, 60, 40)
        write_image(root / f"{name}.png", image)
    mask = np.zeros((90, 120), dtype=np.uint8)
    mask[20:70, 20:65] = 255
    write_label(root / "mask.png", mask)
    return root


def words_of(folder: Path, mask: str = "mask.png") -> list[str]:
    return ["--checkpoint", str(folder / "c.pth"), "--support", str(folder / "support.png"), str(folder / mask)]


def run(folder: Path, mask: str = "mask.png", *options: object, queries: tuple[str, ...] = ("query.png",)) -> None:
    query = ["--query", *(str(folder / query) for query in queries), "--output", str(folder / "out")]
    predict_command.main([*words_of(folder, mask), *query, *map(str, options)])


def test_writes_mask_probability_and_overlay_at_the_size_of_the_query(folder: Path) -> None:
    run(folder, "mask.png", "--write", "mask", "probability", "overlay")
    mask = read_label(folder / "out" / "query_mask.png")
    probability = read_image(folder / "out" / "query_probability.png")[..., 0]
    assert mask.shape == probability.shape == (90, 120)
    assert set(np.unique(mask)) <= {0, 1}
    assert np.array_equal(mask == 1, probability > 127)
    assert read_image(folder / "out" / "query_overlay.jpg").shape == (90, 120, 3)
    assert probability[30:60, 75:95].mean() > probability[:, :40].mean() + 10


def test_a_mask_of_zero_and_one_means_the_same(folder: Path) -> None:
    run(folder)
    first = read_label(folder / "out" / "query_mask.png")
    write_label(folder / "ones.png", read_label(folder / "mask.png") // 255)
    run(folder, "ones.png")
    assert np.array_equal(read_label(folder / "out" / "query_mask.png"), first)


def test_queries_of_a_folder_are_its_visible_images(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "._b.JPG", "notes.txt", "deeper/c.png", "mask.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_queries([tmp_path, tmp_path / "notes.txt"], leave_out={tmp_path / "mask.png"}) == {
        tmp_path / name: Path(name) for name in ("a.png", "b.JPG", "deeper/c.png", "notes.txt")
    }


def test_queries_of_one_name_are_kept_apart(folder: Path) -> None:
    for name in ("a/x.png", "b/x.png"):
        write_image(folder / name, read_image(folder / "query.png"))
    run(folder, queries=("a/x.png", "b", "a/../a/x.png"))
    assert {path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("x_mask.png")} == {
        "a/x_mask.png",
        "b/x_mask.png",
    }


def test_predictions_among_the_queries_are_no_queries(folder: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "q.png", read_image(folder / "query.png"))
    for _ in range(2):
        run(folder, "mask.png", "--output", tmp_path, queries=(str(tmp_path),))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("q.png", "q_mask.png", "q_overlay.jpg", "thumbnails", "areas.csv", "predictions.json"),
        *("sheet.jpg", "supports.jpg", "index.html"),
    }


def test_an_unreadable_query_stops_no_other(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "a.jpg").mkdir()
    write_image(tmp_path / "b.png", read_image(folder / "query.png"))
    (tmp_path / "deep").mkdir()
    write_image(tmp_path / "deep" / "c.png", read_image(folder / "query.png"))
    words = [*words_of(folder), "--query", tmp_path, "--output", tmp_path / "new" / "out"]
    with pytest.raises(SystemExit) as stop:
        run_command(predict_command.main, [str(word) for word in words])
    assert stop.value.code == 1
    errors = capsys.readouterr().err
    assert f"not predicted: {tmp_path}/a.png: not a readable image" in errors
    assert re.search(r"error: 1 of 3 queries were not predicted: .*/a\.png: not a readable image", errors)
    assert {path.name for path in (tmp_path / "new" / "out").rglob("*_mask.png")} == {"b_mask.png", "c_mask.png"}
    assert (tmp_path / "new" / "out" / "deep" / "c_mask.png").is_file()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (8, 8)])
def test_images_of_a_few_pixels(folder: Path, tmp_path: Path, shape: tuple[int, int]) -> None:
    write_image(tmp_path / "tiny.png", np.full((*shape, 3), 90, dtype=np.uint8))
    run(folder, "mask.png", "--output", tmp_path / "out", queries=(str(tmp_path / "tiny.png"),))
    assert read_label(tmp_path / "out" / "tiny_mask.png").shape == shape


def test_a_support_may_be_a_query(folder: Path) -> None:
    run(folder, queries=("support.png",))
    mask = read_label(folder / "out" / "support_mask.png")
    assert mask[25:60, 25:55].mean() > 0.9 and mask[:, 80:].mean() < 0.1


def test_the_object_is_chosen_by_its_value(folder: Path) -> None:
    label = read_label(folder / "mask.png") // 255 * 3
    label[:10] = 7
    write_label(folder / "several.png", label)
    with pytest.raises(UserError, match=r"several\.png: several values, 3, 7; choose the object's with --class VALUE"):
        run(folder, "several.png")
    run(folder)
    expected = read_label(folder / "out" / "query_mask.png")
    run(folder, "several.png", "--class", 3)
    assert np.array_equal(read_label(folder / "out" / "query_mask.png"), expected)
    with pytest.raises(UserError, match="--class: 0 is not a number from 1 to 255"):
        run(folder, "several.png", "--class", 0)


@pytest.mark.parametrize(
    ("objects", "warning"),
    [
        (np.ones((90, 120)), r"odd\.png: the object covers 100\.0 % of the image; is the mask inverted\?"),
        (np.arange(90 * 120) == 7000, r"odd\.png: [01] pixels of the object are left in the network's input \(129 x"),
    ],
)
def test_odd_masks_are_warned_of(
    folder: Path, objects: np.ndarray, warning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_label(folder / "odd.png", objects.reshape(90, 120).astype(np.uint8) * 255)
    run(folder, "odd.png")
    assert re.search(f"WARNING: .*{warning}", capsys.readouterr().err)
    run(folder)
    assert "WARNING" not in capsys.readouterr().err


def test_mistakes(folder: Path) -> None:
    (folder / "directory").mkdir()
    for name, message in {
        "gone.png": "mask not found",
        "c.pth": "not a readable mask",
        "directory": "not a file",
    }.items():
        with pytest.raises(UserError, match=f"{folder / name}: {message}"):
            run(folder, name)
    with pytest.raises(UserError, match=rf"--output {folder}/query\.png: not a folder"):
        run(folder, "mask.png", "--output", folder / "query.png")
    write_label(folder / "empty.png", np.zeros((90, 120), dtype=np.uint8))
    with pytest.raises(UserError, match=r"empty\.png: marks no object"):
        run(folder, "empty.png")
    write_label(folder / "small.png", np.ones((9, 12), dtype=np.uint8))
    with pytest.raises(UserError, match=r"small\.png: the label is 12x9 pixels"):
        run(folder, "small.png")
    with pytest.raises(UserError, match=f"--query {folder}/nothing: no images found in it"):
        (folder / "nothing").mkdir()
        find_queries([folder / "nothing"])
    with pytest.raises(UserError, match=f"--query {folder}/none: image not found"):
        find_queries([folder / "none"])


def test_a_network_with_a_classifier_says_whether_the_object_is_there(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probability of the similarity of support and query, by the calibration of the checkpoint."""
    checkpoint = torch.load(folder / "c.pth", weights_only=True)
    checkpoint["config"]["TRAIN"]["class_scores"] = True
    backbone = build_backbone("mobilenetv2_035", weights=None, normalize="imagenet", mid_stages=[-2], class_scores=True)
    assert backbone.class_head is not None
    head = {f"backbone.class_head.{name}": tensor for name, tensor in backbone.class_head.state_dict().items()}
    for name, intercept, probability in (("likely", 40.0, "100"), ("unlikely", -40.0, "0")):
        checkpoint["model"] |= {**head, "presence_calibration": torch.tensor([1.0, intercept])}
        save_checkpoint(folder / f"{name}.pth", checkpoint)
        run(folder, "mask.png", "--checkpoint", folder / f"{name}.pth", queries=("support.png",))
        said = capsys.readouterr().err
        assert f"% object, which is there with a probability of {probability} %" in said
        assert read_label(folder / "out" / "support_mask.png").any() == (name == "likely")
        run(folder, "mask.png", "--checkpoint", folder / f"{name}.pth", "--always", queries=("support.png",))
        assert read_label(folder / "out" / "support_mask.png").any()
    capsys.readouterr()
    run(folder)
    assert "probability" not in capsys.readouterr().err
    # In a folder that is large enough the surest become supports.
    monkeypatch.setattr("episodes.further_supports._FEWEST_IMAGES", 12)
    image = read_image(folder / "support.png")
    for number in range(12):
        write_image(tmp_path / f"{number}.png", np.roll(image, 8 * number, axis=1))
    support = ("--support", folder / "support.png", folder / "mask.png")
    predict("--checkpoint", folder / "likely.pth", *support, "--query", tmp_path, "--output", folder / "many")
    taken = re.findall(r"(\S+): among the surest to show object, a further support", capsys.readouterr().err)
    found = {row["query"]: float(row["presence"]) for row in rows_of(folder / "many")}
    assert 0 < len({*taken}) == len(taken) < 5 and all(found[query] > 0.5 for query in taken)
    assert str(tmp_path / "0.png") not in taken  # it is the support


def test_many_queries_are_judged_by_each_other(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten are; another one may change what is there in all of them, and none is left as it was."""
    queries = [str(tmp_path / f"{number}.png") for number in range(11)]
    random = np.random.default_rng(0)
    for query in queries:
        patches = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        write_image(Path(query), np.kron(patches, np.ones((24, 32, 1), dtype=np.uint8)))
    weights = tmp_path / "w.safetensors"
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv2_035")
    save_file(network.state_dict(), weights)
    backbone = ("--backbone", "TRAIN.backbone=mobilenetv2_035", f"TRAIN.backbone_weights={weights}")
    support = ("--support", folder / "support.png", folder / "mask.png")
    words = ("--method", "nearest", *backbone, *support, "--output", tmp_path / "out")
    predict(*words, "--query", *queries[:10])
    of_object = Segmenter.load(method="nearest", backbone=backbone[1:])
    of_object.fit(folder / "support.png", folder / "mask.png")
    looks = [of_object.look(query) for query in queries[:10]]
    for row, found in zip(rows_of(tmp_path / "out"), of_object.presence_in(looks), strict=True):
        assert float(row["presence"]) == pytest.approx(found["object"], abs=1e-3)
    predict(*words, "--query", *queries)
    assert len(rows_of(tmp_path / "out")) == 11
    predict(*words, "--query", *queries[:9])
    assert [row["presence"] for row in rows_of(tmp_path / "out")] == [""] * 9
    assert "further support" not in capsys.readouterr().err


@pytest.fixture
def classes(folder: Path, tmp_path: Path) -> Path:
    """A folder of supports with a folder for each of two classes; the object of the second is the background."""
    image, mask = read_image(folder / "support.png"), read_label(folder / "mask.png")
    for name, objects in (("b_dog", mask > 0), ("a_grass", mask == 0)):
        for number in range(2):
            write_image(tmp_path / "supports" / name / f"{number}.jpg", image)
            write_label(tmp_path / "supports" / name / f"{number}_mask.png", objects.astype(np.uint8))
    return tmp_path / "supports"


def predict(*words: object) -> None:
    predict_command.main([str(word) for word in words])


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "areas.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_folder_for_each_class(folder: Path, classes: Path, tmp_path: Path) -> None:
    """Numbers in the order of their names; a map for each; a row for each in the table."""
    words = ["--checkpoint", folder / "c.pth", "--query", folder / "support.png", "--output", tmp_path / "out"]
    words += ["--write", "mask", "overlay", "probability"]
    predict(*words, "--supports", classes)
    mask = read_label(tmp_path / "out" / "support_mask.png")
    assert (mask[30:60, 30:55] == 2).mean() > 0.9 and (mask[:, 80:] == 1).mean() > 0.9
    assert {path.name for path in (tmp_path / "out").glob("support_*")} == {
        *("support_mask.png", "support_overlay.jpg", "support_probability_a_grass.png", "support_probability_b_dog.png")
    }
    for number, row in enumerate(rows_of(tmp_path / "out"), start=1):
        assert row["query"] == str(folder / "support.png") and row["presence"] == ""
        assert row["class"] == ["a_grass", "b_dog"][number - 1]
        assert int(row["pixels"]) == (mask == number).sum() and float(row["share"]) == round((mask == number).mean(), 4)
        assert 0.5 < float(row["probability"]) <= 1
    # One class, which is called as its folder.
    predict(*words, "--supports", classes / "b_dog")
    assert [row["class"] for row in rows_of(tmp_path / "out")] == ["b_dog"]
    assert (tmp_path / "out" / "support_probability.png").is_file()


def test_queries_that_are_done_are_skipped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until a support, the network, a word or the query itself is another."""
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.png", read_image(folder / "query.png"))
    words: list[object] = [*words_of(folder), "--query", tmp_path, "--output", tmp_path / "out"]
    predicted: list[str] = []
    write = PredictionFolder.write

    def noted(output: PredictionFolder, query: Path, name: str, prediction: Prediction) -> None:
        predicted.append(name)
        write(output, query, name, prediction)

    monkeypatch.setattr(PredictionFolder, "write", noted)

    def names(*more: object) -> list[str]:
        predicted.clear()
        predict(*words, *more)
        return sorted(predicted)

    assert names() == ["a", "b"]
    assert names() == []
    assert "2 of 2 queries are predicted already" in capsys.readouterr().err
    assert len(rows_of(tmp_path / "out")) == 2
    write_image(tmp_path / "c.png", read_image(folder / "query.png"))
    write_image(tmp_path / "b.png", read_image(folder / "support.png"))
    assert names() == ["b", "c"]
    assert len(rows_of(tmp_path / "out")) == 3
    assert names("--threshold", "0.4") == ["a", "b", "c"]
    assert names("--threshold", "0.4", "--support", folder / "support.png", folder / "mask.png") == ["a", "b", "c"]
    (tmp_path / "out" / "a_overlay.jpg").unlink()
    assert names("--threshold", "0.4", "--support", folder / "support.png", folder / "mask.png") == ["a"]


def test_a_method_without_training(folder: Path, tmp_path: Path) -> None:
    weights = write_extractor(tmp_path / "backbone.pth", "mobilenetv2_035")
    backbone = ["--backbone", "TRAIN.backbone=mobilenetv2_035", f"TRAIN.backbone_weights={weights}"]
    words = ["--method", "nearest", "--support", folder / "support.png", folder / "mask.png"]
    predict(*words, *backbone, "--query", folder / "query.png", "--output", tmp_path / "out")
    mask = read_label(tmp_path / "out" / "query_mask.png")
    assert mask.shape == (90, 120) and mask.any() and not mask.all()
    with pytest.raises(UserError, match=r"none\.pth: no weights of the backbone"):
        predict(*words, "--backbone", "TRAIN.backbone_weights=none.pth", "--query", folder / "query.png")
    with pytest.raises(UserError, match="--backbone: a checkpoint has its own"):
        predict(*words_of(folder), "--query", folder / "query.png", "--backbone", "TRAIN.backbone=x")


def test_masks_of_supports_are_no_queries(folder: Path, classes: Path, tmp_path: Path) -> None:
    predict("--checkpoint", folder / "c.pth", "--supports", classes, "--query", classes, "--output", tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*_mask.png")}
    assert names == {f"{name}/{number}_mask.png" for name in ("a_grass", "b_dog") for number in range(2)}


def test_small_pieces_and_sure_pixels(folder: Path, tmp_path: Path) -> None:
    words: list[object] = [*words_of(folder), "--query", folder / "support.png", "--output", tmp_path / "out"]
    pixels = []
    for more in ([], ["--threshold", "0.01"], ["--threshold", "0.9999"], ["--min-area", 90 * 120 + 1]):
        predict(*words, *more)
        pixels.append(int(rows_of(tmp_path / "out")[0]["pixels"]))
    assert pixels[1] >= pixels[0] > pixels[2] == pixels[3] == 0


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["x.png"], r"x\.png: has no mask beside it; expected x_mask\.png, or x\.json"),
        (["x_mask.png"], r"x_mask\.png: 0 images and 1 masks of that name; expected one x and one x_mask"),
        (["_mask.png"], r"_mask\.png: 0 images and 1 masks of that name"),
        (["x.png", "x.jpg", "x_mask.png"], "2 images and 1 masks of that name"),
        (["x.png", "x_mask.png", "a/y.png", "a/y_mask.png"], "has images both in it and in its folders"),
        ([], "no images found in it"),
    ],
)
def test_folders_that_hold_no_supports(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=message):
        find_supports(tmp_path)


@pytest.fixture
def annotated(folder: Path, tmp_path: Path) -> Path:
    """Two images of two objects: of the first class a box, of the second, on top of it, another."""
    for name in "ab":
        write_image(tmp_path / "annotated" / f"{name}.jpg", read_image(folder / "support.png"))
    return tmp_path / "annotated"


def box(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def labelme_beside(images: Path) -> None:
    shapes = [("red dog", box(20, 20, 64, 69)), ("ant", box(50, 30, 80, 40)), ("__ignore__", box(0, 0, 9, 9))]
    for name in "ab":
        entries = [{"label": label, "points": points, "shape_type": "polygon"} for label, points in shapes]
        content = {"shapes": entries, "imageHeight": 90, "imageWidth": 120, "imageData": None}
        (images / f"{name}.json").write_text(json.dumps(content))


def coco_for_all(images: Path) -> None:
    outlines = {1: [[20, 20, 65, 20, 65, 70, 20, 70]], 2: [[50, 30, 81, 30, 81, 41, 50, 41]]}
    pairs = list(itertools.product((1, 2), outlines))
    content = {
        "images": [{"id": n, "file_name": f"{'-ab'[n]}.jpg", "height": 90, "width": 120} for n in (1, 2)],
        "categories": [{"id": 1, "name": "red dog"}, {"id": 2, "name": "ant"}],
        "annotations": [
            {"id": n, "image_id": image, "category_id": each, "segmentation": outlines[each]}
            for n, (image, each) in enumerate(pairs)
        ],
    }
    (images / "_annotations.coco.json").write_text(json.dumps(content))


@pytest.mark.parametrize("annotate", [labelme_beside, coco_for_all])
def test_labels_of_jsons_are_classes(folder: Path, annotated: Path, annotate: Callable[[Path], None]) -> None:
    annotate(annotated)
    files = find_supports(annotated)
    supports = read_supports(files)
    assert list(supports) == ["ant", "red dog"] and [len(shots) for shots in supports.values()] == [2, 2]
    expected = np.zeros((90, 120), dtype=np.uint8)
    expected[20:70, 20:65], expected[30:41, 50:81] = 2, 1
    for number, shots in enumerate(supports.values(), start=1):
        for support in shots:
            assert np.array_equal(support.mask == 1, expected == number)
            assert (support.mask[:10, :10] == 255).all() == (annotate is labelme_beside)
    output = annotated / "out"
    words = ["--checkpoint", folder / "c.pth", "--query", annotated / "a.jpg", "--output", output]
    predict(*words, "--supports", annotated)
    assert [row["class"] for row in rows_of(output)] == ["ant", "red dog"]
    source = next(mask for pairs in files.values() for _, mask in pairs)
    predict(*words, "--support", annotated / "a.jpg", source)
    assert [row["class"] for row in rows_of(output)] == ["ant", "red dog"]


def test_jsons_and_what_does_not_go_with_them(folder: Path, annotated: Path, tmp_path: Path) -> None:
    labelme_beside(annotated)
    write_label(annotated / "a_mask.png", read_label(folder / "mask.png"))
    with pytest.raises(UserError, match=r"a_mask\.png: a mask, but other supports have a JSON; annotate all of them"):
        read_supports(find_supports(annotated))
    pairs = {"object": [(annotated / "b.jpg", annotated / "b.json")]}
    with pytest.raises(UserError, match=r"--class 2: not with JSONs \(.*b\.json\)"):
        read_supports(pairs, 2)
    content = json.loads((annotated / "b.json").read_text())
    for changed, message in (
        ({"shapes": content["shapes"][2:]}, r"b\.json: no class in it"),
        ({"imageWidth": 121}, r"b\.json: the label is 121x90 pixels, but .*b\.jpg is 120x90"),
        ({"shapes": 1}, r"b\.json: not a labelme file"),
    ):
        (annotated / "b.json").write_text(json.dumps({**content, **changed}))
        with pytest.raises(UserError, match=message):
            read_supports(pairs)
    (annotated / "b.json").write_text("[]")
    with pytest.raises(UserError, match=r"b\.json: list is there, an object .* expected; expected a JSON of labelme"):
        read_supports(pairs)
    labelme_beside(annotated)
    nothing = json.dumps({**content, "shapes": []})
    (annotated / "b.json").write_text(nothing)
    (annotated / "a_mask.png").unlink()
    with pytest.raises(UserError, match=r"b\.json: marks no object in b\.jpg; annotate it"):
        read_supports(find_supports(annotated))
    coco_for_all(annotated)
    write_image(tmp_path / "other.jpg", read_image(folder / "support.png"))
    source = annotated / "_annotations.coco.json"
    with pytest.raises(UserError, match=r"_annotations\.coco\.json: does not list other\.jpg; annotate it"):
        read_supports({"object": [(tmp_path / "other.jpg", source), (annotated / "a.jpg", source)]})
