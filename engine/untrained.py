"""The backbone of a method without training, where a user names none: that of a family of ``config/``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from util.config import load_config
from util.config.schema import TrainSection
from util.config.words import WEIGHTS_FROM_TIMM
from util.errors import UserError

METHODS = ("nearest", "prototype")
# Datasets differ in nothing that matters here.
_DATASET, _EXPERIMENT = "pascal", "ssl_mobilenetv2"


class Untrained(NamedTuple):
    """A method without training; ``train`` is the section of the configuration that describes its backbone."""

    method: str
    train: TrainSection
    weights: Path

    @classmethod
    def read(cls, method: str, words: Sequence[str] = ()) -> Untrained:
        """The family mobilenetv2 as ``words``, ``key=value``, change it.

        Raises ``UserError`` for another method, for wrong words, and for weights that are not there.
        """
        if method not in METHODS:
            raise UserError(f"method {method}: unknown; choose one of {', '.join(METHODS)}")
        train = load_config(_DATASET, _EXPERIMENT, words).TRAIN
        weights = train.backbone_weights
        if weights is None or (weights != WEIGHTS_FROM_TIMM and not weights.is_file()):
            raise UserError(
                f"{weights or 'TRAIN.backbone_weights'}: no weights of the backbone; initmodel/README.md says where to "
                "get them; TRAIN.backbone_weights=timm TRAIN.backbone_normalize=timm, as --backbone (in Python as "
                "backbone=), download timm's"
            )
        return cls(method, train, weights)
