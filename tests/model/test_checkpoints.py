"""Checkpoints: the network is rebuilt from its own settings, and another network is refused by the settings' names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from model import FSSModel, load_model
from model.checkpoints import CHECKPOINT_VERSION, load_weights, read_network
from model.fss_network import NetworkSettings
from tests.model.networks import random_episode
from util.config import load_config
from util.errors import UserError

SMALL = ["TRAIN.backbone=mobilenetv2_035", "TRAIN.contrast_residual=false", "TRAIN.hidden_dims=16", "TRAIN.val_size=65"]


def build(*overrides: str) -> FSSModel:
    """A network of this configuration with random weights."""
    config = load_config("pascal", "ssl_mobilenetv2", [*SMALL, *overrides])
    torch.manual_seed(0)
    return FSSModel.from_settings(NetworkSettings.configured(config.TRAIN), backbone_weights=None).eval()


def save(model: FSSModel, path: Path) -> Path:
    assert model.settings is not None
    settings = model.settings.model_dump(mode="json")
    content: dict[str, Any] = {"version": CHECKPOINT_VERSION, "network": settings, "model": model.state_dict()}
    config = {"dataset": "pascal", "experiment": "ssl_mobilenetv2", "TRAIN": settings}
    torch.save({**content, "config": config, "epoch": 3, "label_use": "none"}, path)
    return path


def test_other_numbers_of_prototypes_come_back_with_the_checkpoint(tmp_path: Path) -> None:
    model = build("TRAIN.object_prototypes=3", "TRAIN.background_prototypes=5")
    loaded = load_model(save(model, tmp_path / "few.pth"))
    assert loaded.support_prototypes.slots == (3, 5) and loaded.settings == model.settings
    assert torch.equal(loaded(*random_episode()), model(*random_episode()))
    # They matter: the same weights with the usual numbers give something else.
    usual = build()
    usual.load_state_dict(model.state_dict())
    assert not torch.equal(usual(*random_episode()), model(*random_episode()))


def test_a_checkpoint_from_before_it_named_its_network_has_20_and_50_prototypes(tmp_path: Path) -> None:
    path = save(build(), tmp_path / "old.pth")
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["network"]
    del checkpoint["config"]["TRAIN"]["object_prototypes"], checkpoint["config"]["TRAIN"]["background_prototypes"]
    checkpoint["config"]["TRAIN"]["epochs"] = 3  # one of the many settings of a training
    torch.save(checkpoint, path)
    assert load_model(path).support_prototypes.slots == (20, 50)


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("TRAIN.hidden_dims=32", "hidden_dims is 16 .*, 32 "),
        ("TRAIN.object_prototypes=9", "object_prototypes is 20 .*, 9 "),
        ("TRAIN.compat=published", "support_self_attention is True .*, False .*; .*compat is ours .*, published "),
    ],
)
def test_weights_of_another_network_are_refused_by_the_names_of_its_settings(
    tmp_path: Path, override: str, difference: str
) -> None:
    path = save(build(), tmp_path / "other.pth")
    with pytest.raises(UserError, match=rf"^[^\n]*other\.pth: made with other settings \([^\n]*{difference}[^\n]*$"):
        load_weights(build(override), read_network(path))


def test_images_of_another_size_are_no_other_network(tmp_path: Path) -> None:
    path = save(build(), tmp_path / "small.pth")
    load_weights(build("TRAIN.val_size=97"), read_network(path))


def test_tensors_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    path = save(build(), tmp_path / "damaged.pth")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["model"].popitem()
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r"^[^\n]*damaged\.pth: holds tensors of another network[^\n]*$"):
        load_model(path)
