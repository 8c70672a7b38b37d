"""Shared folders: what is in them, that they give the same network, and what is said about broken ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import FSSModel, load_model
from model.checkpoints import provenance, read_network
from tests.model import networks
from tests.model.networks import random_episode, tiny_model
from util.errors import UserError

# None of those with a default has it.
SETTINGS = networks.SETTINGS.model_copy(
    update={
        "backbone_normalize": "timm",
        "contrast_residual": True,
        "object_prototypes": 3,
        "background_prototypes": 7,
    }
)


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
    network = {**dict(SETTINGS), "mid_stages": [-2]}
    assert config == {"format_version": 1, "network": network, "trained": "unknown", "label_use": "unknown"}


def without_digest(folder: Path) -> dict[str, Any]:
    """Leaves the weights as they were before they held a digest and a copy of the settings; returns the settings."""
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def test_a_folder_from_before_the_numbers_of_prototypes_were_settings_has_20_and_50(folder: Path) -> None:
    config = without_digest(folder)
    for key in ("object_prototypes", "background_prototypes"):
        del config["network"][key]
    for key in ("trained", "label_use"):
        del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    assert provenance(read_network(folder))["label_use"] == "unknown"
    loaded = load_model(folder)
    assert loaded.support_prototypes.slots == (20, 50)
    assert loaded.settings == SETTINGS.model_copy(update={"object_prototypes": 20, "background_prototypes": 50})


@pytest.mark.parametrize(("key", "value"), [("colour", "red"), ("hidden_dims", "many"), ("val_size", None)])
def test_settings_that_this_software_does_not_know_are_named(folder: Path, key: str, value: str | None) -> None:
    config = without_digest(folder)
    config["network"][key] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=rf"^\S*shared: holds no network that this software can build \({key}: [^\n]*$"):
        load_model(folder)


def test_saving_again_replaces_the_network(model: FSSModel, folder: Path) -> None:
    torch.nn.init.ones_(next(model.adjust_query.parameters()))
    model.save_pretrained(folder)
    assert torch.equal(load_model(folder)(*random_episode()), model(*random_episode()))


def test_a_folder_without_config_or_of_another_format_is_named(folder: Path) -> None:
    (folder / "config.json").write_text('{"format_version": 99, "network": {}}')
    with pytest.raises(UserError, match=r"config\.json: not of this software's format 1; copy the folder again"):
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
    with pytest.raises(UserError, match="built from settings"):
        tiny_model().save_pretrained(tmp_path)
