"""Backbones: sizes, freezing, weights in their published layouts, and wrong ones."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from model import FSSModel
from model.frozen.backbone import build_backbone
from model.frozen.timm_networks import PatchGrid
from model.loss import dice_loss
from model.weights import Weights
from tests.model.networks import random_episode, semseg_resnet50, tiny_backbone
from util.errors import UserError
from util.images import IMAGENET_MEAN, IMAGENET_STD


def test_deep_stem_resnet_loads_the_published_layout(tmp_path: Path) -> None:
    state = semseg_resnet50(counters=True)
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
    torch.save(timm.create_model("resnet50").state_dict(), tmp_path / "resnet50.pth")
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
    for stages in ({"mid_stages": [-6]}, {"mid_stages": [-2, 5]}, {"mid_stages": [-2], "high_stage": 7}):
        with pytest.raises(UserError, match="stages 0 to 4"):
            build_backbone("mobilenetv2_035", weights=None, normalize="imagenet", **stages)


@pytest.mark.parametrize("name", ["mobilenetv2_035", "test_vit"])
def test_any_stages_may_be_concatenated_and_any_may_make_the_prior(name: str) -> None:
    images = torch.randn(1, 3, 65, 65)
    torch.manual_seed(0)
    state = timm.create_model(name).state_dict()
    weights = Weights(Path("made up"), state)
    last = build_backbone(name, weights=weights, normalize="timm", mid_stages=[-3, -2])
    middle = build_backbone(name, weights=weights, normalize="timm", mid_stages=[-1, -3], high_stage=-2)
    third_and_second, first = last(images)
    third_and_first, second = middle(images)
    third = last.mid_channels - middle.high_channels
    torch.testing.assert_close(third_and_first, torch.cat([third_and_second[:, :third], first], dim=1))
    torch.testing.assert_close(second, third_and_second[:, third:])


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


class Recorder(nn.Module):
    """Stands in for a transformer: returns each patch's mean, as one token."""

    def prune_intermediate_layers(self, indices: list[int], **options: bool) -> list[int]:
        return indices

    def forward_intermediates(self, images: Tensor, indices: list[int], **options: object) -> list[Tensor]:
        patches = F.avg_pool2d(images, 16)
        return [patches.flatten(2).transpose(1, 2) for _ in indices]


def test_the_middle_of_a_patch_is_the_pixel_that_its_feature_stands_for() -> None:
    """As with a convolutional network, feature (i, j) stands for the pixel (stride * i, stride * j)."""
    grid = PatchGrid(Recorder(), [0], patch=16)
    images = torch.zeros(1, 1, 33, 49)
    images[..., 16, 32] = 256
    (features,) = grid(images)
    assert features.shape == (1, 1, 3, 4)
    assert features.nonzero().tolist() == [[0, 0, 1, 2]]
    for reach, inside in ((7, True), (9, False)):
        images = torch.zeros(1, 1, 33, 49)
        images[..., 16 + reach, 32 - reach] = 256
        assert bool(grid(images)[0][0, 0, 1, 2]) == inside


@pytest.mark.parametrize(("name", "stride"), [("test_vit", 16), ("vit_tiny_patch16_224", 16), ("test_vit4", 16)])
def test_vision_transformers_work_on_their_patches(name: str, stride: int) -> None:
    backbone = build_backbone(name, weights=None, normalize="timm", mid_stages=[-3, -2])
    mid, high = backbone(torch.randn(1, 3, 4 * stride + 1, 2 * stride + 1))
    assert backbone.stride == stride
    assert mid.shape == (1, 2 * high.shape[1], 5, 3)
    assert high.is_contiguous(memory_format=torch.channels_last)


def test_weights_of_a_transformer_load(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network: Any = timm.create_model("test_vit", dynamic_img_size=True)
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    backbone = build_backbone("test_vit", weights=tmp_path / "vit.pth", normalize="imagenet", mid_stages=[-2])
    images = torch.randn(1, 3, 33, 33)
    padded = F.pad(images, (7, 8, 7, 8))
    expected = network.eval().get_intermediate_layers(padded, n=1, reshape=True, norm=True)[0]
    torch.testing.assert_close(backbone(images)[1], expected)


def test_sides_that_do_not_fit_the_patches_are_named() -> None:
    backbone = build_backbone("test_vit", weights=None, normalize="timm", mid_stages=[-2])
    backbone.check_sides(val_size=257)
    with pytest.raises(UserError, match=r"TRAIN\.val_size=473: .* multiple of 16, .* like 465 or 481"):
        backbone.check_sides(train_h=257, val_size=473)
    with pytest.raises(UserError, match=r"TRAIN\.train_h=256, TRAIN\.train_w=260: .* multiple of 8, .* 249 or 257"):
        tiny_backbone().check_sides(train_h=256, train_w=260, val_size=257)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "densenet121", "beit_base_patch16_224"])
def test_models_without_stride_8_or_patches_of_one_size_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"TRAIN.backbone={name}: it runs neither at output stride 8 nor"):
        build_backbone(name, weights=None, normalize="timm", mid_stages=[-2])


def test_normalisation_is_taken_from_the_model() -> None:
    """timm says that test_vit wants mean and deviation 0.5."""
    backbone = build_backbone("test_vit", weights=None, normalize="timm", mid_stages=[-2])
    image = torch.full((3, 1, 1), 0.5)
    imagenet = (image - torch.from_numpy(IMAGENET_MEAN).view(3, 1, 1)) / torch.from_numpy(IMAGENET_STD).view(3, 1, 1)
    torch.testing.assert_close(imagenet * backbone.scale + backbone.shift, torch.zeros(3, 1, 1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["resnet50_v2", "resnet50", "resnet101_v2", "mobilenetv2_100", "vit_tiny_patch16_224"])
def test_a_network_on_any_backbone_trains_a_step_and_evaluates(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, weights=None, normalize="timm", mid_stages=[-3, -2])
    model = FSSModel(backbone, channels=16).train()
    query, supports, masks = random_episode(batch=1, size=49)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    before = model.eval()(query, supports, masks)
    loss = dice_loss(model.train()(query, supports, masks), masks[:, 0])
    loss.backward()
    optimizer.step()
    after = model.eval()(query, supports, masks)
    assert after.shape == (1, 2, 49, 49)
    assert loss.isfinite() and after.isfinite().all() and not torch.equal(before, after)
