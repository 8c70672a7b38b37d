"""A user's own images through the command: files, sizes, kinds of masks, mistakes."""

from pathlib import Path

import numpy as np
import pytest

import predict as predict_command
from engine.run_folder import save_checkpoint
from model.checkpoints import CHECKPOINT_VERSION
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


def run(folder: Path, mask: str = "mask.png") -> None:
    support = ["--support", str(folder / "support.png"), str(folder / mask)]
    query = ["--query", str(folder / "query.png"), "--output", str(folder / "out")]
    predict_command.main(["--checkpoint", str(folder / "c.pth"), *support, *query])


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
    for name in ("b.JPG", "a.png", "._b.JPG", "notes.txt", "deeper/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert predict_command.find_queries([tmp_path, tmp_path / "notes.txt"]) == [
        tmp_path / name for name in ("a.png", "b.JPG", "notes.txt")
    ]


def test_mistakes(folder: Path) -> None:
    write_label(folder / "empty.png", np.zeros((90, 120), dtype=np.uint8))
    with pytest.raises(UserError, match=r"empty\.png: marks no object"):
        run(folder, "empty.png")
    write_label(folder / "small.png", np.ones((9, 12), dtype=np.uint8))
    with pytest.raises(UserError, match=r"small\.png: the label is 12x9 pixels"):
        run(folder, "small.png")
    with pytest.raises(UserError, match="no images found"):
        (folder / "nothing").mkdir()
        predict_command.find_queries([folder / "nothing"])
