"""Identifying a weight file by the names and shapes of its tensors, and renaming them to those of our networks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

# A tensor that only the few-shot network of the published code has.
PUBLISHED_MARK = "adjust_feature_supp.0.weight"

# Where checkpoints keep their tensors; the first that fits is used, and what is in it may be a checkpoint in turn.
_CONTAINERS = (
    *("state_dict", "model_state_dict", "model_state", "teacher", "model", "net", "ema", "resnet"),
    *("state_dict_ema", "model_ema"),
)
_DEEPEST_CONTAINER = 3
# Prefixes of names, removed as long as one fits: of the wanted part in MoCo, MoCo v3 and DINO, and of wrappers.
_PARTS = ("encoder_q.", "base_encoder.", "backbone.")
_WRAPPERS = ("module.", "_orig_mod.", "model.")

# The first of these in a file identifies it; ResNets and vision transformers are identified more closely.
_MARKS = {
    "conv_stem.weight": "an EfficientNet or MobileNet of timm",
    "net.0.0.weight": "a SimCLR v2 network with selective kernels",
    "stages.0.blocks.0.conv_dw.weight": "a ConvNeXt of timm",
}
_RESNETS: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "18",
    ("basic", (3, 4, 6, 3)): "34",
    ("bottleneck", (3, 4, 6, 3)): "50",
    ("bottleneck", (3, 4, 23, 3)): "101",
    ("bottleneck", (3, 8, 36, 3)): "152",
}
_VIT_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge", 1536: "giant"}
# Deep stem as published (semseg) -> as timm names it.
_DEEP_STEM_NAMES = {
    "conv1": "conv1.0",
    "bn1": "conv1.1",
    "conv2": "conv1.3",
    "bn2": "conv1.4",
    "conv3": "conv1.6",
    "bn3": "bn1",
}
# SimCLR v2 as converted from TensorFlow -> as torchvision names it: convolutions at even places, norms at odd ones.
_SIMCLR_V2 = (
    (r"net\.0\.0\.", "conv1."),
    (r"net\.0\.1\.0\.", "bn1."),
    (r"net\.(\d)\.blocks\.(\d+)\.projection\.shortcut\.", r"layer\1.\2.downsample.0."),
    (r"net\.(\d)\.blocks\.(\d+)\.projection\.bn\.0\.", r"layer\1.\2.downsample.1."),
    (r"net\.(\d)\.blocks\.(\d+)\.net\.0\.", r"layer\1.\2.conv1."),
    (r"net\.(\d)\.blocks\.(\d+)\.net\.1\.0\.", r"layer\1.\2.bn1."),
    (r"net\.(\d)\.blocks\.(\d+)\.net\.2\.", r"layer\1.\2.conv2."),
    (r"net\.(\d)\.blocks\.(\d+)\.net\.3\.0\.", r"layer\1.\2.bn2."),
    (r"net\.(\d)\.blocks\.(\d+)\.net\.4\.", r"layer\1.\2.conv3."),
    (r"net\.(\d)\.blocks\.(\d+)\.net\.5\.0\.", r"layer\1.\2.bn3."),
)


def named_tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file under the names that their network gives them.

    From a checkpoint of MoCo these are the tensors of the query encoder, from one of DINO those of the teacher's
    backbone; prefixes like ``module.`` are removed.
    """
    for _ in range(_DEEPEST_CONTAINER):
        inner = next((content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        content = inner
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    is_published = any(key.endswith(PUBLISHED_MARK) for key in tensors)
    prefixes = _WRAPPERS if is_published else (*_PARTS, *_WRAPPERS)
    while chosen := _without_prefix(tensors, prefixes):
        tensors = chosen
    return tensors


def _without_prefix(tensors: Mapping[str, Tensor], prefixes: Sequence[str]) -> dict[str, Tensor]:
    """Those of the tensors whose names have the first prefix that any has, without it; none where none has one."""
    for prefix in prefixes:
        chosen = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if chosen:
            return chosen
    return {}


def describe_tensors(tensors: Mapping[str, Tensor]) -> str:
    """A phrase for what the tensors, as returned by ``named_tensors``, belong to."""
    if PUBLISHED_MARK in tensors:
        return "a few-shot checkpoint of the published code, which python -m model.import_published converts"
    model = timm_name(tensors)
    if model is not None:
        kinds = {"plain": "a torchvision ResNet, ", None: "the vision transformer "}
        return kinds.get(_stem(tensors), "a ResNet with the deep stem, ") + model
    if "layer1.0.conv1.weight" in tensors:
        return "a ResNet, or a part of one"
    if "patch_embed.proj.weight" in tensors:
        return "a vision transformer"
    known = [phrase for mark, phrase in _MARKS.items() if mark in tensors]
    return known[0] if known else f"something with names like {next(iter(tensors), '')!r}"


def timm_name(tensors: Mapping[str, Tensor]) -> str | None:
    """The backbone that the tensors fit, by its name in ``TRAIN.backbone``; None where that is not clear."""
    if "layer4.0.conv1.weight" in tensors and _stem(tensors) is not None:
        return _resnet_name(tensors)
    if "patch_embed.proj.weight" in tensors and "pos_embed" in tensors:
        return _transformer_name(tensors)
    return None


def to_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under timm's names: the deep stem and SimCLR v2 are renamed, others are left as they are."""
    if _stem(tensors) == "simclr":
        return {_simclr_v2_name(key): value for key, value in tensors.items()}
    if _stem(tensors) != "semseg":
        return dict(tensors)
    return {_deep_stem_name(key): value for key, value in tensors.items()}


def _resnet_name(tensors: Mapping[str, Tensor]) -> str | None:
    block = "bottleneck" if "layer1.0.conv3.weight" in tensors else "basic"
    depth = _RESNETS.get((block, tuple(_count(tensors, rf"layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))))
    if depth is None:
        return None
    return f"resnet{depth}" if _stem(tensors) == "plain" else f"resnet{depth}_v2"


def _transformer_name(tensors: Mapping[str, Tensor]) -> str | None:
    projection, positions = tensors["patch_embed.proj.weight"], tensors["pos_embed"]
    if projection.dim() != 4 or positions.dim() != 3 or len(projection) not in _VIT_SIZES:
        return None
    channels, patch = len(projection), projection.shape[2]
    name = f"vit_{_VIT_SIZES[channels]}_patch{patch}"
    if "blocks.0.ls1.gamma" in tensors:
        return f"{name}_reg4_dinov2" if "reg_token" in tensors else f"{name}_dinov2"
    patches = max(positions.shape[1] - int("cls_token" in tensors), 0)
    return f"{name}_{patch * math.isqrt(patches)}"


def _stem(tensors: Mapping[str, Tensor]) -> str | None:
    """The first layers of a ResNet: ``plain`` for one 7x7 convolution, else the project that names them differently."""
    if "net.0.0.weight" in tensors and tensors["net.0.0.weight"].shape[-1:] == (7,):
        return "simclr"
    if "conv3.weight" in tensors and "bn3.weight" in tensors:
        return "semseg"
    if "conv1.6.weight" in tensors and tensors["conv1.6.weight"].shape[:1] == (128,):
        return "timm"
    first = tensors.get("conv1.weight")
    return "plain" if first is not None and first.shape[-1:] == (7,) else None


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    numbers = {match.group(1) for key in tensors if (match := re.match(pattern, key))}
    return len(numbers)


def _deep_stem_name(key: str) -> str:
    stem, _, rest = key.partition(".")
    return f"{_DEEP_STEM_NAMES.get(stem, stem)}.{rest}"


def _simclr_v2_name(key: str) -> str:
    for pattern, name in _SIMCLR_V2:
        renamed, replacements = re.subn(f"^{pattern}", name, key)
        if replacements:
            return renamed
    return key
