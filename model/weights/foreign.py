"""Weights from elsewhere: a published checkpoint becomes one of ours, a backbone one with timm's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.checkpoints import CHECKPOINT_VERSION
from model.frozen.backbone import build_backbone
from model.fss_network import FSSModel, NetworkSettings, with_calibration
from model.weights import Weights, describe_misfit, load_finite, named_weights, read_weights
from model.weights.tensor_names import PUBLISHED_MARK, describe_tensors, named_tensors, timm_name, to_timm
from util.environment import describe_environment
from util.errors import UserError
from util.logging import logger
from util.tensor_files import write_safetensors_file, write_torch_file

_BACKBONE = "backbone.body."
# Parts of the published network whose results it discards.
_UNUSED = ("transformer.self_supp_cluster.", "addtional_proj.", "pred_supp_qry_proj.")
# Published names -> ours, where they differ.
_ATTENTION = {
    "value_proj": "value_projection",
    "output_proj": "output_projection",
    "q_fc": "query_projection",
    "k_fc": "key_projection",
    "v_fc": "value_projection",
    "proj": "output_projection",
}
_LAYERS = {"layers.0.0": "expand", "layers.1": "contract"}
_OUTSIDE = {
    "adjust_feature_supp.0": "adjust_support.0",
    "adjust_feature_qry.0": "adjust_query.0",
    "qry_merge_feat.0": "merge_query.convolution",
    "supp_merge_feat.0": "merge_support.convolution",
    "classifier.0": "classifier.0",
    "classifier.3": "classifier.3",
}


def convert(source: Path, target: Path) -> None:
    """Read a checkpoint or a backbone, write it as ours, and log how to use it. Raises ``UserError``."""
    content = read_weights(source)
    if {"version", "network", "model"} <= content.keys():
        raise UserError(f"{source}: already a checkpoint of this software; use it with TRAIN.weight")
    if PUBLISHED_MARK in named_tensors(content):
        write_torch_file(target, import_checkpoint(content, source))
        logger.info("%s: use it with TRAIN.weight=%s TRAIN.compat=published", target, target)
    else:
        import_backbone(named_weights(content, source), target)


def import_checkpoint(content: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """A checkpoint of ours, ``compat: published``, from the content of a published one. Raises ``UserError``."""
    tensors = named_tensors(content)
    unused = {key: value for key, value in tensors.items() if key.startswith(_UNUSED)}
    backbone = {key.removeprefix(_BACKBONE): value for key, value in tensors.items() if key.startswith(_BACKBONE)}
    rest = {key: value for key, value in tensors.items() if key not in unused and not key.startswith(_BACKBONE)}
    name = timm_name(backbone)
    if name not in ("resnet50_v2", "resnet101_v2"):
        raise UserError(
            f"{source}: its backbone should be a deep-stem ResNet-50 or 101; found {describe_tensors(backbone)}"
        )
    settings = NetworkSettings.stored(
        {
            "backbone": name,
            "backbone_normalize": "imagenet",
            "mid_stages": (-3, -2),
            "high_stage": -1,
            "hidden_dims": len(tensors[PUBLISHED_MARK]) if tensors[PUBLISHED_MARK].dim() else 0,
            "support_self_attention": False,
            "contrast_residual": False,
            "compat": "published",
            "val_size": 473,
        },
        source,
    )
    model = FSSModel.from_settings(settings, backbone_weights=Weights(source, to_timm(backbone)))
    ours = with_calibration({our_name(key): value for key, value in rest.items()})
    expected = {key: value for key, value in model.state_dict().items() if not key.startswith("backbone.")}
    misfit = describe_misfit(ours, expected, exact=True)
    if misfit is not None:
        raise UserError(f"{source}: not the published network: {misfit}")
    load_finite(model, ours, source)
    numbers = f"{sum(value.numel() for value in unused.values()):,}"
    logger.info("%d tensors (%s numbers) that the published network never uses are left out", len(unused), numbers)
    return {
        "version": CHECKPOINT_VERSION,
        "network": settings.model_dump(mode="json"),
        "config": {"dataset": "published", "experiment": source.name, "TRAIN": settings.model_dump(mode="json")},
        "model": model.state_dict(),
        "epoch": _epoch(content),
        "label_use": "unknown (published checkpoint)",
        "environment": describe_environment(),
    }


def import_backbone(weights: Weights, target: Path) -> None:
    """Write a backbone's weights to ``target`` under timm's names, after loading them as a check.

    Raises ``UserError`` for a file that is no backbone.
    """
    name = timm_name(weights.tensors)
    if name is None:
        kind = describe_tensors(weights.tensors)
        raise UserError(f"{weights.path}: neither a published checkpoint nor a known backbone; it looks like {kind}")
    build_backbone(name, weights=weights, normalize="imagenet", mid_stages=[-2])
    if target.suffix == ".safetensors":
        write_safetensors_file(target, weights.tensors, {"format": "pt"})
    else:
        write_torch_file(target, weights.tensors)
    logger.info("%s: use it with TRAIN.backbone=%s TRAIN.backbone_weights=%s", target, name, target)


def our_name(published: str) -> str:
    """Our name of a published parameter outside the backbone; the name itself where there is none.

    A layer of the query transformer has two FFNs and four norms; the published names number them across layers.
    """
    stem, _, kind = published.rpartition(".")
    if stem in _OUTSIDE:
        return f"{_OUTSIDE[stem]}.{kind}"
    if match := re.fullmatch(r"transformer\.(qry_self|cross)_layers\.(\d+)\.(\w+)", stem):
        part = {"qry_self": "self_attention", "cross": "cross_attention"}[match[1]]
        return f"query_transformer.layers.{match[2]}.{part}.{_ATTENTION.get(match[3], match[3])}.{kind}"
    if match := re.fullmatch(r"transformer\.ffns\.(\d+)\.(layers\.0\.0|layers\.1)", stem):
        layer, number = divmod(int(match[1]), 2)
        return f"query_transformer.layers.{layer}.feed_forwards.{number}.{_LAYERS[match[2]]}.{kind}"
    if match := re.fullmatch(r"transformer\.layer_norms\.(\d+)", stem):
        layer, number = divmod(int(match[1]), 4)
        return f"query_transformer.layers.{layer}.norms.{number}.{kind}"
    return published


def _epoch(content: Mapping[str, Any]) -> int:
    """The number of epochs that a checkpoint states, 0 where it states none."""
    epoch = content.get("epoch")
    return int(epoch) if isinstance(epoch, int | float) and 0 <= epoch < 2**31 else 0
