"""Backbones: sizes, freezing, weights in their published layouts, and wrong ones."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from model.backbone import build_backbone
from tests.model.networks import tiny_backbone
from util.errors import UserError


def published_resnet50(layout: str = "deep") -> dict[str, torch.Tensor]:
    """Made-up weights with the keys of a published file, the classifier included."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"stem_type": "deep", "stem_width": 64} if layout == "deep" else {}
    state = timm.create_model("resnet50", num_classes=10, **options).state_dict()
    names = {"conv1.0": "conv1", "conv1.1": "bn1", "conv1.3": "conv2", "conv1.4": "bn2", "conv1.6": "conv3"}
    published = {}
    for key, value in state.items():
        stem = ".".join(key.split(".")[:2])
        if layout == "deep" and key.startswith("bn1."):
            key = key.replace("bn1.", "bn3.")
        published[key.replace(stem, names[stem]) if stem in names else key] = value
    return published


def test_deep_stem_resnet_loads_the_published_layout(tmp_path: Path) -> None:
    state = published_resnet50()
    assert {"conv3.weight", "bn3.running_var", "layer1.0.conv1.weight", "fc.weight"} <= state.keys()
    torch.save(state, tmp_path / "resnet50_v2.pth")
    backbone = build_backbone(
        "resnet50_v2", weights=tmp_path / "resnet50_v2.pth", normalize="imagenet", mid_stages=[-3, -2]
    )
    mid, high = backbone(torch.randn(1, 3, 97, 97))
    assert mid.shape == (1, 512 + 1024, 13, 13)
    assert high.shape == (1, 2048, 13, 13)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.modules())
    dilations = [backbone.network.get_submodule(f"layer4.{block}.conv2").dilation for block in range(3)]
    assert dilations == [(2, 2), (4, 4), (4, 4)]


def test_a_seven_by_seven_stem_is_not_the_deep_one(tmp_path: Path) -> None:
    torch.save(published_resnet50("plain"), tmp_path / "resnet50.pth")
    with pytest.raises(UserError, match=r"another architecture than resnet50_v2.*a torchvision ResNet, resnet50"):
        build_backbone("resnet50_v2", weights=tmp_path / "resnet50.pth", normalize="imagenet", mid_stages=[-2])


def test_missing_weights_say_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.pth: weights not found.*README"):
        build_backbone("mobilenetv2_035", weights=tmp_path / "gone.pth", normalize="imagenet", mid_stages=[-2])


def test_a_broken_weights_file_is_named(tmp_path: Path) -> None:
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(UserError, match=name):
            build_backbone("mobilenetv2_035", weights=tmp_path / name, normalize="imagenet", mid_stages=[-2])


def test_weights_with_code_in_them_are_refused(tmp_path: Path) -> None:
    torch.save({"model": tiny_backbone()}, tmp_path / "pickle.pth")
    with pytest.raises(UserError, match=r"pickle\.pth"):
        build_backbone("mobilenetv2_035", weights=tmp_path / "pickle.pth", normalize="imagenet", mid_stages=[-2])


def test_unknown_model_and_impossible_stages() -> None:
    with pytest.raises(UserError, match=r"TRAIN\.backbone=mobilenet_of_mine"):
        build_backbone("mobilenet_of_mine", weights=None, normalize="imagenet", mid_stages=[-2])
    with pytest.raises(UserError, match="stages 0 to 4"):
        build_backbone("mobilenetv2_035", weights=None, normalize="imagenet", mid_stages=[-1])


def test_backbone_stays_frozen_and_in_evaluation_mode() -> None:
    backbone = tiny_backbone().train()
    assert not backbone.training
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_inception_normalisation_means_minus_one_to_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_file(timm.create_model("mobilenetv2_035").state_dict(), tmp_path / "w.safetensors")
    ours = build_backbone("mobilenetv2_035", weights=tmp_path / "w.safetensors", normalize="inception", mid_stages=[-2])
    image = torch.rand(1, 3, 65, 65)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    expected = ours.network(image * 2 - 1)[-1]
    torch.testing.assert_close(ours(normalised)[1], expected, rtol=1e-3, atol=1e-4)
