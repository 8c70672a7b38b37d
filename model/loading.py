"""Building the network from plain settings, and from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.backbone import build_backbone
from model.fss_network import FSSModel
from model.weights import read_weights
from util.errors import UserError

CHECKPOINT_VERSION = 1
# The keys of a config's TRAIN section that say what the network is.
NETWORK_KEYS = (
    "backbone",
    "backbone_normalize",
    "mid_stages",
    "hidden_dims",
    "support_self_attention",
    "contrast_residual",
)


def build_model(settings: Mapping[str, Any], *, backbone_weights: Path | None) -> FSSModel:
    """A network from the ``NETWORK_KEYS`` of ``settings``; random backbone where no weights are given."""
    backbone = build_backbone(
        settings["backbone"],
        weights=backbone_weights,
        normalize=settings["backbone_normalize"],
        mid_stages=settings["mid_stages"],
    )
    return FSSModel(
        backbone,
        channels=settings["hidden_dims"],
        support_self_attention=settings["support_self_attention"],
        contrast_residual=settings["contrast_residual"],
    )


def load_model(path: Path | str) -> FSSModel:
    """The network of a checkpoint, frozen backbone included, in evaluation mode on the CPU. Raises ``UserError``."""
    checkpoint = read_checkpoint(Path(path))
    model = build_model(checkpoint["config"]["TRAIN"], backbone_weights=None)
    model.load_state_dict(checkpoint["model"])
    return model.eval()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this project: ``version``, ``config``, ``model``, what training needs. ``UserError``."""
    checkpoint = read_weights(path)
    if checkpoint.get("version") != CHECKPOINT_VERSION:
        raise UserError(f"{path}: not a checkpoint of this software (version {CHECKPOINT_VERSION} expected)")
    return checkpoint
