"""The classification head: what timm's network gives for a whole image, region by region, and files without it."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from model import FSSModel, load_model
from model.frozen.backbone import build_backbone
from model.frozen.timm_networks import class_head, find_network
from tests.model.networks import SETTINGS, random_episode
from util.errors import UserError


def network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    model: torch.nn.Module = timm.create_model(name).eval()
    # Statistics that are not those of an identity.
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            tensor.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize("name", ["mobilenetv2_035", "resnet18"])
def test_a_whole_image_has_the_positive_scores_of_timms_classifier(name: str, tmp_path: Path) -> None:
    state = network(name).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    backbone = build_backbone(
        name, weights=tmp_path / "weights.safetensors", normalize="imagenet", mid_stages=[-2], class_scores=True
    )
    assert backbone.class_head is not None
    definition = find_network(name, title=name, output_stride=8)
    dilated = timm.create_model(name, output_stride=8).eval()
    dilated.load_state_dict(state)
    images = torch.randn(2, 3, 65, 65)
    _, high = backbone(images)
    with torch.no_grad():
        expected = dilated(images).clamp(min=0)
    torch.testing.assert_close(backbone.class_head(high, torch.ones(2, 9, 9)), expected, rtol=1e-3, atol=1e-3)
    # Of a region alone: the mean over its positions, however they weigh.
    weights = torch.zeros(2, 9, 9)
    weights[:, 2:4, 3:8] = 0.5
    alone = backbone.class_head(high[:, :, 2:4, 3:8], torch.ones(2, 2, 5))
    torch.testing.assert_close(backbone.class_head(high, weights), alone, rtol=1e-4, atol=1e-4)
    assert [*class_head(definition, pretrained=False).state_dict()] == [
        key for key in state if key.startswith(("conv_head.", "bn2.", "classifier.", "fc."))
    ]


def test_weights_without_a_classifier_give_a_network_without_it(tmp_path: Path) -> None:
    state = timm.create_model("mobilenetv2_035").state_dict()
    save_file({name: tensor for name, tensor in state.items() if "classifier" not in name}, tmp_path / "w.safetensors")
    settings = SETTINGS.model_copy(update={"class_scores": True})
    model = FSSModel.from_settings(settings, backbone_weights=tmp_path / "w.safetensors")
    assert model.settings is not None and not model.settings.class_scores and model.backbone.class_head is None
    save_file(state, tmp_path / "whole.safetensors")
    model = FSSModel.from_settings(settings, backbone_weights=tmp_path / "whole.safetensors").eval()
    assert model.settings is not None and model.settings.class_scores
    model.save_pretrained(tmp_path / "shared")
    loaded = load_model(tmp_path / "shared")
    assert loaded.backbone.class_head is not None
    episode = random_episode()
    with torch.no_grad():
        assert torch.equal(loaded(*episode), model(*episode))


def test_a_network_without_a_known_classifier_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"TRAIN\.class_scores=true: .* has no classifier that is known here; use false"
    ):
        build_backbone("mobilenetv3_small_100", weights=None, normalize="imagenet", mid_stages=[-2], class_scores=True)
