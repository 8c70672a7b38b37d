"""Shared folders: what is in them, that they give the same network, and what is said about broken ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from model import FSSModel, load_model
from model.fss_network import NETWORK_KEYS
from tests.model.networks import random_episode, tiny_model
from util.errors import UserError

SETTINGS: Mapping[str, Any] = {
    "backbone": "mobilenetv2_035",
    "backbone_normalize": "timm",
    "mid_stages": [-2],
    "high_stage": -1,
    "hidden_dims": 16,
    "support_self_attention": True,
    "contrast_residual": True,
    "compat": "ours",
    "val_size": 65,
    "epochs": 3,
}


@pytest.fixture
def model() -> FSSModel:
    torch.manual_seed(0)
    return FSSModel.from_settings(SETTINGS, backbone_weights=None).eval()


@pytest.fixture
def folder(model: FSSModel, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "shared")
    return tmp_path / "shared"


def test_a_shared_network_gives_the_same_logits(model: FSSModel, folder: Path) -> None:
    torch.manual_seed(1)
    for again in (FSSModel.from_pretrained(folder), load_model(folder)):
        assert not again.training
        assert torch.equal(again(*random_episode()), model(*random_episode()))
        assert again.settings == model.settings


def test_the_folder_holds_weights_and_what_network_they_are_of(folder: Path) -> None:
    assert {"config.json", "model.safetensors"} <= {path.name for path in folder.iterdir()}
    config = json.loads((folder / "config.json").read_text())
    assert config == {"format_version": 1, "network": {key: SETTINGS[key] for key in NETWORK_KEYS}}


def test_saving_again_replaces_the_network(model: FSSModel, folder: Path) -> None:
    torch.nn.init.ones_(next(model.adjust_query.parameters()))
    model.save_pretrained(folder)
    assert torch.equal(load_model(folder)(*random_episode()), model(*random_episode()))


def test_a_folder_without_config_or_of_another_format_is_named(folder: Path) -> None:
    (folder / "config.json").write_text('{"format_version": 99, "network": {}}')
    with pytest.raises(UserError, match=r"shared: config\.json is missing or not of this software's format 1"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"shared: config\.json is missing"):
        load_model(folder)


def test_a_folder_without_weights_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: weights not found"):
        load_model(folder)


def test_a_name_that_is_nowhere_is_named() -> None:
    with pytest.raises(UserError, match="nobody/nothing: neither a folder"):
        FSSModel.from_pretrained("nobody/nothing", local_files_only=True)


def test_a_network_put_together_by_hand_cannot_say_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="made from settings"):
        tiny_model().save_pretrained(tmp_path)
