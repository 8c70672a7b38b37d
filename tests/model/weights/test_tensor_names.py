"""Weight files of others: what they are called, what is said of them, and that they load."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor

from model.frozen.backbone import build_backbone
from model.import_published import main as import_published
from model.weights.tensor_names import describe_tensors, named_tensors, timm_name, to_timm
from tests.model.networks import semseg_resnet50
from util.errors import UserError

State = dict[str, Tensor]


def shapes(create: Callable[[], torch.nn.Module]) -> State:
    """A state dict without numbers: names and shapes are all that tells what a file is."""
    with torch.device("meta"):
        return create().state_dict()


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def resnet(depth: int) -> State:
    return shapes(getattr(torchvision.models, f"resnet{depth}"))


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_resnets_of_torchvision_are_told_by_their_depth(depth: int) -> None:
    assert timm_name(resnet(depth)) == f"resnet{depth}"
    assert describe_tensors(resnet(depth)) == f"a torchvision ResNet, resnet{depth}"


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "vit_small_patch8_224",
        "vit_base_patch8_224",
        "vit_small_patch14_dinov2",
        "vit_base_patch14_reg4_dinov2",
    ],
)
def test_vision_transformers_are_told_by_width_patch_and_grid(name: str) -> None:
    state = shapes(lambda: timm.create_model(name))
    assert timm_name(state) == name
    assert describe_tensors(state) == f"the vision transformer {name}"


def test_others_are_described() -> None:
    assert (
        describe_tensors(shapes(lambda: timm.create_model("mobilenetv2_035"))) == "an EfficientNet or MobileNet of timm"
    )
    part = {key: value for key, value in resnet(18).items() if not key.startswith("layer4")}
    assert describe_tensors(part) == "a ResNet, or a part of one"
    assert describe_tensors({"theirs.weight": torch.zeros(1)}) == "something with names like 'theirs.weight'"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda state: state, id="bare"),
        pytest.param(lambda state: {"state_dict": prefixed("module.", state), "epoch": 3}, id="DataParallel"),
        pytest.param(
            lambda state: {
                "arch": "resnet50",
                "state_dict": prefixed("module.encoder_k.", state) | prefixed("module.encoder_q.", state),
            },
            id="MoCo",
        ),
        pytest.param(
            lambda state: {
                "student": prefixed("module.backbone.", {"conv1.weight": torch.zeros(1)}),
                "teacher": prefixed("backbone.", state) | {"head.mlp.0.weight": torch.zeros(1)},
            },
            id="DINO",
        ),
        pytest.param(lambda state: {"state_dict": state}, id="SimCLR"),
        pytest.param(lambda state: prefixed("encoder_q.", state) | {"queue": torch.zeros(1)}, id="MoCo, not wrapped"),
        pytest.param(
            lambda state: {
                "state_dict": prefixed("module.base_encoder.", state) | prefixed("module.momentum_encoder.", state)
            },
            id="MoCo v3",
        ),
        pytest.param(
            lambda state: {"state_dict": prefixed("model.", state) | {"criterion.weight": torch.zeros(1)}},
            id="Lightning",
        ),
        pytest.param(lambda state: {"model": prefixed("_orig_mod.", state)}, id="compiled"),
        pytest.param(lambda state: {"model": prefixed("_orig_mod.module.", state)}, id="compiled DataParallel"),
        pytest.param(lambda state: prefixed("module.module.", state), id="DataParallel twice"),
        pytest.param(lambda state: {"model": {"state_dict": state}}, id="a checkpoint in a checkpoint"),
        pytest.param(lambda state: {"model_state_dict": state, "optimizer_state_dict": {}}, id="model_state_dict"),
        pytest.param(lambda state: {"model_state": state, 7: torch.zeros(1)}, id="model_state"),
        pytest.param(lambda state: {"net": state, "acc": 93.1}, id="net"),
        pytest.param(lambda state: {"ema": state}, id="ema"),
    ],
)
def test_checkpoints_are_unwrapped(content: Callable[[State], dict[str, Any]]) -> None:
    state = resnet(50)
    assert named_tensors(content(state)).keys() == state.keys()


def test_the_published_network_is_known_through_any_wrapper() -> None:
    tensors = {"adjust_feature_supp.0.weight": torch.zeros(1), "backbone.body.conv1.weight": torch.zeros(1)}
    for prefix in ("", "module.", "module.module.", "_orig_mod.module."):
        assert named_tensors({"state_dict": prefixed(prefix, tensors)}).keys() == tensors.keys()
    assert "python -m model.import_published" in describe_tensors(tensors)


def test_a_checkpoint_that_holds_itself_ends() -> None:
    content: dict[str, Any] = {"weight": torch.zeros(1)}
    content["model"] = content
    assert named_tensors(content).keys() == {"weight"}


@pytest.mark.parametrize("name", ["conv1.weight", "net.0.0.weight", "conv1.6.weight", "patch_embed.proj.weight"])
def test_tensors_of_other_shapes_are_described(name: str) -> None:
    for shape in ((), (0,), (7,)):
        assert describe_tensors({name: torch.zeros(shape), "pos_embed": torch.zeros(shape)})


def test_simclr_v2_becomes_torchvisions_resnet() -> None:
    state = resnet(50)
    theirs = {simclr_v2_name(key): value for key, value in state.items() if "num_batches" not in key}
    assert "net.1.blocks.0.projection.bn.0.running_var" in theirs and "net.4.blocks.2.net.4.weight" in theirs
    translated = to_timm(named_tensors({"resnet": theirs, "head": {"layers.0.weight": torch.zeros(1)}}))
    assert translated.keys() == {key for key in state if "num_batches" not in key}
    assert all(translated[key] is state[key] for key in translated)
    theirs["net.0.0.weight"] = torch.zeros(32, 3, 3, 3)
    assert describe_tensors(theirs) == "a SimCLR v2 network with selective kernels"


def simclr_v2_name(key: str) -> str:
    """torchvision's name of a ResNet's tensor as the converted SimCLR v2 files have it, part by part."""
    parts = key.split(".")
    if parts[0] in ("conv1", "bn1"):
        return ".".join(["net.0.0" if parts[0] == "conv1" else "net.0.1.0", *parts[1:]])
    if parts[0] == "fc":
        return key
    block = f"net.{parts[0].removeprefix('layer')}.blocks.{parts[1]}"
    if parts[2] == "downsample":
        return ".".join([block, "projection", "shortcut" if parts[3] == "0" else "bn.0", *parts[4:]])
    number = int(parts[2][-1])
    place = str(2 * number - 2) if parts[2].startswith("conv") else f"{2 * number - 1}.0"
    return ".".join([block, "net", place, *parts[3:]])


@pytest.mark.parametrize(("counters", "tensors"), [(False, 277), (True, 332)])
def test_the_published_backbone_becomes_one_with_names_of_timm(tmp_path: Path, counters: bool, tensors: int) -> None:
    state = semseg_resnet50(counters=counters)
    assert len(state) == tensors
    torch.save(state, tmp_path / "resnet50_v2.pth")
    import_published([str(tmp_path / "resnet50_v2.pth"), str(tmp_path / "ours.safetensors")])
    images = torch.randn(1, 3, 33, 33)
    theirs, ours = (
        build_backbone("resnet50_v2", weights=tmp_path / name, normalize="imagenet", mid_stages=[-3, -2])
        for name in ("resnet50_v2.pth", "ours.safetensors")
    )
    assert all(torch.equal(a, b) for a, b in zip(theirs(images), ours(images), strict=True))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("resnet18", lambda state: {"state_dict": prefixed("module.encoder_q.", state)}),
        ("vit_tiny_patch16_224", lambda state: {"teacher": prefixed("backbone.", state)}),
    ],
)
def test_other_backbones_are_imported_under_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: Callable[[State], dict[str, Any]]
) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name)
    torch.save(content(network.state_dict()), tmp_path / "theirs.pth")
    import_published([str(tmp_path / "theirs.pth"), str(tmp_path / "ours.pth")])
    assert f"TRAIN.backbone={name} TRAIN.backbone_weights={tmp_path}/ours.pth" in capsys.readouterr().err
    again = timm.create_model(name)
    again.load_state_dict(torch.load(tmp_path / "ours.pth", weights_only=True))
    images = torch.randn(1, 3, 224, 224)
    assert torch.equal(again.eval()(images), network.eval()(images))


def test_what_is_no_backbone_is_not_imported(tmp_path: Path) -> None:
    torch.save({"theirs.weight": torch.zeros(1)}, tmp_path / "theirs.pth")
    with pytest.raises(UserError, match=r"theirs\.pth: neither .* it looks like something with names like 'theirs"):
        import_published([str(tmp_path / "theirs.pth"), str(tmp_path / "ours.pth")])
    assert not (tmp_path / "ours.pth").exists()


def test_a_file_of_another_network_is_named_as_what_it_is(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "r18.pth")
    with pytest.raises(UserError, match=r"r18\.pth: .* than resnet50_v2: .* a torchvision ResNet, resnet18"):
        build_backbone("resnet50_v2", weights=tmp_path / "r18.pth", normalize="timm", mid_stages=[-2])
    with pytest.raises(UserError, match=r"than test_vit: .*it looks like a torchvision ResNet, resnet18"):
        build_backbone("test_vit", weights=tmp_path / "r18.pth", normalize="timm", mid_stages=[-2])
