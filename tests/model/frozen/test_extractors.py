"""Extractors: what they compute, which weight files they take, and what they say about others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from model.frozen.extractors import FAMILIES, Extractor, build_extractor, extractor_file
from tests import golden
from util.errors import UserError

_TINY = "test_efficientnet"


@pytest.fixture
def tiny_weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(timm.create_model(_TINY, pretrained=False).state_dict(), tmp_path / "tiny.pth")
    return tmp_path / "tiny.pth"


def _build(weights: Path | None, name: str = f"timm:{_TINY}", stride: int | None = 8) -> Extractor:
    return build_extractor(name, weights=weights, normalize="inception", stride=stride)


def test_timm_features_are_the_last_stage_of_the_normalised_image(tiny_weights: Path) -> None:
    extractor = _build(tiny_weights)
    reference = timm.create_model(_TINY, pretrained=False, features_only=True, output_stride=8).eval()
    state = torch.load(tiny_weights, weights_only=True)
    reference.load_state_dict({key: state[key] for key in reference.state_dict()})
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = reference(2 * images - 1)[-1]
    assert extractor(images).shape == (2, extractor.channels, 8, 12)
    assert torch.allclose(extractor(images), expected, atol=1e-5)


@pytest.mark.parametrize("stage", [-2, 3])
def test_an_earlier_stage(tiny_weights: Path, stage: int) -> None:
    extractor = build_extractor(
        f"timm:{_TINY}", weights=tiny_weights, normalize="inception", stage=stage, output_stride=8
    )
    reference = timm.create_model(_TINY, pretrained=False, features_only=True, output_stride=8).eval()
    state = torch.load(tiny_weights, weights_only=True)
    reference.load_state_dict({key: state[key] for key in reference.state_dict()})
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = reference(2 * images - 1)[stage]
    assert extractor.channels == expected.shape[1] and extractor.stride == 8
    assert torch.allclose(extractor(images), expected, atol=1e-5)


def test_a_stage_that_is_not_there(tiny_weights: Path) -> None:
    with pytest.raises(UserError, match=r"Cluster\.stage=5: .*has stages 0 to 4, or -5 to -1"):
        build_extractor(f"timm:{_TINY}", weights=tiny_weights, stage=5)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_stride(tiny_weights: Path, stride: int) -> None:
    extractor = _build(tiny_weights, stride=stride)
    assert extractor.stride == stride
    assert extractor(torch.rand(1, 3, 64, 64)).shape[-1] == 64 // stride


def test_frozen_and_in_evaluation_mode(tiny_weights: Path) -> None:
    extractor = _build(tiny_weights)
    assert not extractor.training
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_safetensors_without_batch_counters(tiny_weights: Path, tmp_path: Path) -> None:
    state = torch.load(tiny_weights, weights_only=True)
    save_file({key: tensor for key, tensor in state.items() if "num_batches" not in key}, tmp_path / "w.safetensors")
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(_build(tmp_path / "w.safetensors")(images), _build(tiny_weights)(images))


def test_timm_models_that_rename_their_stages_load(tmp_path: Path) -> None:
    """features_only turns the names stages.0.* of the full model into stages_0.*."""
    full = timm.create_model("test_convnext", pretrained=False)
    torch.save(full.state_dict(), tmp_path / "w.pth")
    extractor = _build(tmp_path / "w.pth", "timm:test_convnext")
    assert torch.equal(extractor.state_dict()["network.network.stem_0.weight"], full.state_dict()["stem.0.weight"])


@pytest.fixture(scope="module")
def moco_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    state = {f"module.encoder_q.{key}": value for key, value in torchvision.models.resnet50().state_dict().items()}
    state |= {"module.encoder_k.conv1.weight": torch.zeros(64, 3, 7, 7), "module.queue": torch.zeros(8, 4)}
    path = tmp_path_factory.mktemp("moco") / "moco.pth.tar"
    torch.save({"epoch": 800, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {}}}, path)
    return path


def test_moco_takes_the_query_encoder_after_layer4(moco_weights: Path) -> None:
    extractor = build_extractor("moco", weights=moco_weights)
    assert (extractor.channels, extractor.stride) == (2048, 32)
    reference = torchvision.models.resnet50()
    state = torch.load(moco_weights, weights_only=True)["state_dict"]
    prefix = "module.encoder_q."
    reference.load_state_dict({key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)})
    trunk = torch.nn.Sequential(*list(reference.eval().children())[:-2])
    images = torch.rand(1, 3, 65, 97)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = trunk((images - mean[:, None, None]) / std[:, None, None])
    assert expected.shape == (1, 2048, 3, 4)
    assert golden.relative_error(extractor(images), expected) < 1e-4


def test_simclr_takes_images_that_are_not_normalised(moco_weights: Path, tmp_path: Path) -> None:
    state = torch.load(moco_weights, weights_only=True)["state_dict"]
    state = {key.removeprefix("module.encoder_q."): value for key, value in state.items() if "encoder_q" in key}
    torch.save({"state_dict": state}, tmp_path / "resnet50-1x.pth")
    extractor = build_extractor("simclr", weights=tmp_path / "resnet50-1x.pth")
    assert (extractor.channels, extractor.stride) == (2048, 32)
    normalised = build_extractor("moco", weights=moco_weights)
    images = torch.rand(1, 3, 64, 64)
    assert golden.relative_error(extractor((images - normalised.mean) / normalised.std), normalised(images)) < 1e-5


@pytest.fixture(scope="module")
def dino_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    state = timm.create_model("vit_base_patch8_224", num_classes=0).state_dict()
    path = tmp_path_factory.mktemp("dino") / "dino_vitbase8_pretrain.pth"
    torch.save(state, path)
    return path


def test_dino_gives_the_normalised_patches_of_the_last_block(dino_weights: Path) -> None:
    extractor = build_extractor("dino", weights=dino_weights)
    assert (extractor.channels, extractor.stride) == (768, 8)
    reference: Any = timm.create_model("vit_base_patch8_224", num_classes=0, dynamic_img_size=True).eval()
    reference.load_state_dict(torch.load(dino_weights, weights_only=True))
    images = torch.rand(1, 3, 33, 49)  # corners on corners: 5 and 7 patches of 8 pixels, their middles 8 pixels apart
    padded = torch.nn.functional.pad((images - extractor.mean) / extractor.std, (3, 4, 3, 4))
    with torch.no_grad():
        expected = reference.forward_features(padded)[:, 1:].transpose(1, 2).unflatten(2, (5, 7))
    assert golden.relative_error(extractor(images), expected) < 1e-4
    assert extractor(torch.rand(1, 3, 30, 41)).shape == (1, 768, 4, 6)


@pytest.mark.slow
def test_dinos_full_checkpoint_gives_the_teacher(dino_weights: Path, tmp_path: Path) -> None:
    state = torch.load(dino_weights, weights_only=True)
    teacher = {f"backbone.{key}": value for key, value in state.items()} | {"head.mlp.0.weight": torch.zeros(1)}
    student = {f"module.backbone.{key}": torch.zeros_like(value) for key, value in state.items()}
    torch.save({"student": student, "teacher": teacher, "epoch": 300}, tmp_path / "full.pth")
    images = torch.rand(1, 3, 17, 17)
    expected = build_extractor("dino", weights=dino_weights)(images)
    assert torch.equal(build_extractor("dino", weights=tmp_path / "full.pth")(images), expected)


@pytest.fixture
def vit_weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    return tmp_path / "vit.pth"


def test_a_transformer_at_another_stride_sees_another_size(vit_weights: Path) -> None:
    natural = _build(vit_weights, "timm:test_vit", stride=None)
    fine = _build(vit_weights, "timm:test_vit", stride=8)
    assert (natural.stride, fine.stride) == (16, 8)
    images = torch.rand(1, 3, 49, 33)
    assert natural(images).shape == (1, 64, 4, 3)
    assert fine(images).shape == (1, 64, 7, 5)
    enlarged = torch.nn.functional.interpolate(2 * images - 1, (97, 65), mode="bilinear", align_corners=True) / 2 + 0.5
    assert torch.allclose(fine(images), natural(enlarged), atol=1e-4)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_mirror_image_and_sizes_are_averaged(tiny_weights: Path, vit_weights: Path, name: str) -> None:
    weights = {"test_efficientnet": tiny_weights, "test_vit": vit_weights}[name]
    plain = build_extractor(f"timm:{name}", weights=weights, stride=16)
    averaged = build_extractor(f"timm:{name}", weights=weights, stride=16, flip=True, scales=[1.0, 2.0])
    images = torch.rand(1, 3, 64, 96)
    larger = torch.nn.functional.interpolate(
        (images - plain.mean) / plain.std, (128, 192), mode="bilinear", align_corners=True
    )
    total = torch.zeros(())
    for view in (images, larger * plain.std + plain.mean):
        for mirrored in (False, True):
            features = plain(view.flip(-1) if mirrored else view)
            features = torch.nn.functional.normalize(features, dim=1)
            features = torch.nn.functional.interpolate(features, (4, 6), mode="bilinear", align_corners=True)
            total = total + (features.flip(-1) if mirrored else features) / 4
    assert torch.allclose(averaged(images), total, atol=1e-4)
    assert torch.allclose(averaged(images.flip(-1)), averaged(images).flip(-1), atol=1e-4)


def test_a_thin_image_keeps_a_pixel_at_a_small_size(tiny_weights: Path) -> None:
    extractor = build_extractor("timm:test_efficientnet", weights=tiny_weights, stride=16, scales=[0.01, 1.0])
    features = extractor(torch.rand(1, 3, 10, 400))
    assert features.shape[2:] == (1, 25) and features.isfinite().all()


def test_missing_weights() -> None:
    with pytest.raises(UserError, match=r"timm:test_efficientnet: weights are missing; give weights=FILE"):
        _build(None)
    with pytest.raises(UserError, match=r"nowhere\.pth: weights not found; see initmodel/README\.md.*same command"):
        _build(Path("nowhere.pth"))


def test_weights_of_another_architecture(tiny_weights: Path) -> None:
    message = r"tiny\.pth: weights of another architecture than resnet50: \d+ of \d+ .*, \d+ are unexpected .*; "
    with pytest.raises(UserError, match=message + r"it looks like an EfficientNet or MobileNet of timm"):
        _build(tiny_weights, "moco")


def test_weights_of_a_wider_network_of_the_same_family(tiny_weights: Path, tmp_path: Path) -> None:
    state = torch.load(tiny_weights, weights_only=True)
    torch.save({**state, "conv_stem.weight": torch.zeros(99, 3, 3, 3)}, tmp_path / "wide.pth")
    with pytest.raises(
        UserError, match=r"wide\.pth: weights of another architecture than test_efficientnet: 1 of \d+ tensors"
    ):
        _build(tmp_path / "wide.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights"])
def test_unreadable_weights(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="not a readable weight file"):
        _build(tmp_path / name)


def test_truncated_weights(tiny_weights: Path) -> None:
    tiny_weights.write_bytes(tiny_weights.read_bytes()[:-1000])
    with pytest.raises(UserError, match="not a readable weight file"):
        _build(tiny_weights)


def test_a_file_without_tensors(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(UserError, match="expected a dictionary of tensors"):
        _build(tmp_path / "w.pth")


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]

    torch.save({"state_dict": Trap()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"holds more than tensors and plain values: \S+; save its tensors alone"):
        _build(tmp_path / "w.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """``weights/`` and ``initmodel/``, empty."""
    found = (tmp_path / "weights", tmp_path / "initmodel")
    for folder in found:
        folder.mkdir()
    monkeypatch.setattr("model.frozen.extractors.EXTRACTOR_FOLDERS", found)
    return found


@pytest.mark.parametrize(
    ("extractor", "names"),
    [
        ("moco", ["moco_v2_800ep_pretrain.pth.tar"]),
        ("simclr", ["simclr_resnet50-1x.pth", "resnet50-1x.pth", "r50_1x_sk0.pth"]),
        ("dino", ["dino_vit_B_8.pth", "dino_vitbase8_pretrain.pth", "dino_vitbase8_pretrain_full_checkpoint.pth"]),
    ],
)
def test_each_extractor_has_files_of_its_own(folders: tuple[Path, Path], extractor: str, names: list[str]) -> None:
    others = [name for other in ("moco", "simclr", "dino") if other != extractor for name in FAMILIES[other].files]
    for name in others:
        (folders[0] / name).touch()
    assert extractor_file(extractor) is None
    message = (
        rf"^extractor {extractor}: weights not found as \S*/weights/{names[0]} or \S*/initmodel/{names[0]}; "
        rf"fetch https://\S+\.pth\S*, put it into \S*/weights [^\n]*$"
    )
    with pytest.raises(UserError, match=message):
        build_extractor(extractor, weights=None)
    for name in reversed(names):
        (folders[1] / name).touch()
        assert extractor_file(extractor) == folders[1] / name
    (folders[0] / names[-1]).touch()
    assert extractor_file(extractor) == folders[0] / names[-1]


def test_the_file_of_the_extractor_is_read_where_none_is_named(folders: tuple[Path, Path]) -> None:
    (folders[0] / "resnet50-1x.pth").write_text("<html>")
    with pytest.raises(UserError, match=r"weights/resnet50-1x\.pth: not a readable weight file \(a web page"):
        build_extractor("simclr", weights=None)


def test_weights_that_are_not_finite(tiny_weights: Path, tmp_path: Path) -> None:
    state = torch.load(tiny_weights, weights_only=True)
    for name in ("conv_stem.weight", "bn1.running_var"):
        damaged = {**state, name: state[name].clone().index_fill_(0, torch.tensor([1]), float("nan"))}
        torch.save(damaged, tmp_path / "nan.pth")
        with pytest.raises(UserError, match=rf"nan\.pth: weights are not finite: 1 of \d+ tensors .* {name}"):
            _build(tmp_path / "nan.pth")


def test_unknown_model_and_models_without_such_features(tiny_weights: Path) -> None:
    with pytest.raises(UserError, match=r"extractor timm:resnet_50: timm has no such model; did you mean .*resnet50"):
        _build(tiny_weights, "timm:resnet_50")
    with pytest.raises(UserError, match=r"neither at output stride 8 nor on patches at any size; choose a conv"):
        _build(tiny_weights, "timm:test_mambaout")
    with pytest.raises(UserError, match=r"neither at .* a vision transformer that takes images of any size"):
        _build(tiny_weights, "timm:beit_base_patch16_224")
    with pytest.raises(UserError, match=r"Cluster\.stride=64: .*has features every 32 pixels; give 8, 16 or 32"):
        _build(tiny_weights, stride=64)
