"""A user's own images through the command: files, sizes, kinds of masks, mistakes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import predict as predict_command
from commands.prediction_inputs import find_queries
from engine.run_folder import save_checkpoint
from model.checkpoints import CHECKPOINT_VERSION
from model.frozen.backbone import build_backbone
from tests.model.networks import tiny_model
from util.config import load_config
from util.errors import UserError
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


def run(folder: Path, mask: str = "mask.png", *options: object, queries: tuple[str, ...] = ("query.png",)) -> None:
    support = ["--support", str(folder / "support.png"), str(folder / mask)]
    query = ["--query", *(str(folder / query) for query in queries), "--output", str(folder / "out")]
    predict_command.main(["--checkpoint", str(folder / "c.pth"), *support, *query, *map(str, options)])


def test_writes_mask_probability_and_overlay_at_the_size_of_the_query(folder: Path) -> None:
    run(folder)
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
    assert len(list(tmp_path.iterdir())) == 6


def test_an_unreadable_query_stops_no_other(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "a.jpg").mkdir()
    write_image(tmp_path / "b.png", read_image(folder / "query.png"))
    with pytest.raises(UserError, match=r"a\.png: not a readable image"):
        run(folder, "mask.png", "--output", tmp_path / "new" / "out", queries=(str(tmp_path),))
    assert (tmp_path / "new" / "out" / "b_mask.png").is_file()


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
    folder: Path, capsys: pytest.CaptureFixture[str]
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
        run(folder, "mask.png", "--checkpoint", folder / f"{name}.pth")
        said = capsys.readouterr().err
        assert f"% object, which is there with a probability of {probability} %" in said
    run(folder)
    assert "probability" not in capsys.readouterr().err
