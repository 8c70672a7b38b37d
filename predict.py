"""Segment your own photographs: ``python predict.py --checkpoint C --support IMAGE MASK --query PATH...``."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.evaluate import to_original
from episodes.transforms import ValTransform, View, content_size
from model import FSSModel, load_model
from util.arguments import Parser
from util.device import choose_device
from util.draw import overlay
from util.errors import UserError, run_command
from util.images import (
    IGNORE,
    IMAGE_SUFFIXES,
    check_same_size,
    find_files,
    read_image,
    read_label,
    write_image,
    write_label,
)
from util.logging import logger, start_logging


class Prediction(NamedTuple):
    """What the network says of a photograph of H x W pixels."""

    mask: np.ndarray  # (H, W) uint8, 1 object, 0 background
    probability: np.ndarray  # (H, W) float32 in 0..1, of the object


def main(arguments: list[str]) -> None:
    """Read the command line; write a mask, a probability map and an overlay for each query."""
    parser = Parser(prog="predict.py", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--support", nargs=2, type=Path, action="append", required=True, metavar=("IMAGE", "MASK"))
    parser.add_argument("--query", nargs="+", type=Path, required=True, help="photographs, or folders of them")
    parser.add_argument("--output", type=Path, default=Path("predictions"), help="folder (%(default)s)")
    parsed = parser.parse_args(arguments)
    start_logging()
    model = load_model(parsed.checkpoint).to(choose_device([0]))
    assert model.settings is not None  # every checkpoint holds them
    size = model.settings.val_size
    supports = [read_support(image, mask, size) for image, mask in parsed.support]
    for path in find_queries(parsed.query):
        photograph = read_image(path)
        prediction = predict(model, photograph, supports, size)
        write_label(parsed.output / f"{path.stem}_mask.png", prediction.mask)
        grey = np.rint(255 * prediction.probability).astype(np.uint8)
        write_image(parsed.output / f"{path.stem}_probability.png", np.stack([grey] * 3, axis=2))
        write_image(parsed.output / f"{path.stem}_overlay.jpg", overlay(photograph, prediction.mask))
        logger.info("%s: %.1f %% object", path, 100 * prediction.mask.mean())


def find_queries(paths: list[Path]) -> list[Path]:
    """The images among ``paths`` and directly in the folders among them. Raises ``UserError`` when there are none."""
    queries = [
        file
        for path in paths
        for file in (find_files(path, IMAGE_SUFFIXES, recursive=False) if path.is_dir() else [path])
    ]
    if not queries:
        raise UserError(f"--query {' '.join(map(str, paths))}: no images there")
    return queries


def read_support(image: Path, mask: Path, size: int) -> View:
    """A support photograph and its mask, letterboxed to ``size``.

    In the mask 0 is background and every other value the object; 255 is not counted, unless it is the only value
    beside 0. Raises ``UserError``, also for a mask without object.
    """
    photograph, label = read_image(image), read_label(mask)
    check_same_size(image, photograph.shape[:2], mask, label.shape)
    values = set(np.unique(label).tolist()) - {0}
    if not values:
        raise UserError(f"{mask}: marks no object; its pixels must be other than 0")
    objects = (label > 0).astype(np.uint8)
    if values != {IGNORE}:
        objects[label == IGNORE] = IGNORE
    return ValTransform(size=size)(photograph, objects, rng=random.Random(0))


@torch.inference_mode()
def predict(model: FSSModel, photograph: np.ndarray, supports: list[View], size: int) -> Prediction:
    """Segment ``photograph`` (H, W, 3) RGB uint8 at its own size."""
    nothing = np.zeros(photograph.shape[:2], dtype=np.uint8)
    query = ValTransform(size=size)(photograph, nothing, rng=random.Random(0))
    device = next(model.parameters()).device
    inputs: list[Tensor] = [
        query.image,
        torch.stack([view.image for view in supports]),
        torch.stack([view.mask for view in supports]),
        query.padding,
        torch.stack([view.padding for view in supports]),
    ]
    logits = model(*(tensor[None].to(device) for tensor in inputs))[0]
    probability = to_original(logits, photograph.shape[:2], partial(content_size, size=size)).softmax(dim=0)[1]
    return Prediction((probability > 0.5).byte().cpu().numpy(), probability.cpu().numpy())


if __name__ == "__main__":
    run_command(main)
