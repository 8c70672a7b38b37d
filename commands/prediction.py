"""Prediction: the network sees the supports and each query, and the query's mask is written at its own size."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from commands.prediction_inputs import Support
from engine.evaluate import object_probability
from engine.prediction_files import PredictionFolder
from episodes.transforms import ValTransform, View, content_size
from masks.superpixels.refinement import refined
from model import FSSModel
from model.presence import presence_similarity
from util.errors import UserError, first_of
from util.images import read_image
from util.logging import logger

# An object of fewer pixels in the network's input may fall between the positions of its features, 8 x 8 pixels each.
_FEW_PIXELS = 64


class Prediction(NamedTuple):
    """The prediction for an image of H x W pixels."""

    mask: np.ndarray  # (H, W) uint8, 1 object, 0 background
    probability: np.ndarray  # (H, W) float32 in 0..1, of the object
    presence: float | None  # probability that the object is in the image at all; None: the network cannot tell


def view_of_support(support: Support, size: int) -> View:
    """The support letterboxed to ``size``, with a warning if little is left of its object."""
    view = ValTransform(size=size)(support.image, support.mask, rng=random.Random(0))
    pixels = int((view.mask == 1).sum())
    if pixels < _FEW_PIXELS:
        logger.warning(
            "WARNING: %s: %d pixels of the object are left in the network's input (%d x %d), too few for a feature of "
            "8 x 8 pixels; cut the image around the object",
            *(support.path, pixels, size, size),
        )
    return view


def predict_all(
    model: FSSModel, names: Mapping[Path, str], supports: list[View], size: int, output: PredictionFolder
) -> None:
    """Predict every query that can be read and its prediction written; raises ``UserError`` afterwards for others."""
    problems = []
    for path, name in names.items():
        try:
            image = read_image(path)
            prediction = predict(model, image, supports, size)
            output.write(name, image, prediction.mask, prediction.probability)
        except UserError as error:
            problems.append(str(error))
        else:
            logger.info("%s: %.1f %% object%s", path, 100 * prediction.mask.mean(), _in_words(prediction.presence))
    if problems:
        raise first_of(problems)


@torch.inference_mode()
def predict(model: FSSModel, image: np.ndarray, supports: list[View], size: int) -> Prediction:
    """Segment ``image`` (H, W, 3) RGB uint8 at its own size; ``supports`` were letterboxed to ``size``."""
    empty_mask = np.zeros(image.shape[:2], dtype=np.uint8)
    query = ValTransform(size=size)(image, empty_mask, rng=random.Random(0))
    device = next(model.parameters()).device
    inputs: list[Tensor] = [
        query.image,
        torch.stack([view.image for view in supports]),
        torch.stack([view.mask for view in supports]),
        query.padding,
        torch.stack([view.padding for view in supports]),
    ]
    arguments = [tensor[None].to(device) for tensor in inputs]
    logits = model(*arguments)[0]
    own_size = partial(content_size, size=size)
    probability = object_probability(logits, image.shape[:2], own_size, torch.from_numpy(image), refined)
    return Prediction((probability > 0.5).byte().numpy(), probability.numpy(), _presence(model, arguments))


def _presence(model: FSSModel, arguments: list[Tensor]) -> float | None:
    if model.presence_threshold is None:
        return None
    query, supports, masks, query_padding, support_padding = arguments
    similarity = presence_similarity(model.backbone, query, supports, masks, query_padding, support_padding)
    slope, intercept = model.presence_calibration
    return float((slope * similarity[0] + intercept).sigmoid())


def _in_words(presence: float | None) -> str:
    return "" if presence is None else f", which is there with a probability of {100 * presence:.0f} %"
