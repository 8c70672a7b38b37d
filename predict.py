"""Segment your own images: ``python predict.py --checkpoint C --support IMAGE MASK --query PATH...``."""

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
from util.distributed import require_one_process
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
    """The prediction for an image of H x W pixels."""

    mask: np.ndarray  # (H, W) uint8, 1 object, 0 background
    probability: np.ndarray  # (H, W) float32 in 0..1, of the object


def main(arguments: list[str]) -> None:
    """Parse the command line; write a mask, a probability map and an overlay for each query."""
    parser = Parser(prog="predict.py", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--support", nargs=2, type=Path, action="append", required=True, metavar=("IMAGE", "MASK"))
    parser.add_argument("--query", nargs="+", type=Path, required=True, help="images, or folders of them")
    parser.add_argument("--output", type=Path, default=Path("predictions"), help="folder (%(default)s)")
    parsed = parser.parse_args(arguments)
    require_one_process("predict.py")
    start_logging()
    model = load_model(parsed.checkpoint).to(choose_device([0]))
    assert model.settings is not None  # every checkpoint holds them
    size = model.settings.val_size
    supports = [read_support(image, mask, size) for image, mask in parsed.support]
    for path in find_queries(parsed.query):
        image = read_image(path)
        prediction = predict(model, image, supports, size)
        write_label(parsed.output / f"{path.stem}_mask.png", prediction.mask)
        grey = np.rint(255 * prediction.probability).astype(np.uint8)
        write_image(parsed.output / f"{path.stem}_probability.png", np.stack([grey] * 3, axis=2))
        write_image(parsed.output / f"{path.stem}_overlay.jpg", overlay(image, prediction.mask))
        logger.info("%s: %.1f %% object", path, 100 * prediction.mask.mean())


def find_queries(paths: list[Path]) -> list[Path]:
    """The images among ``paths`` and directly in the folders among them. Raises ``UserError`` when there are none."""
    queries = [
        file
        for path in paths
        for file in (find_files(path, IMAGE_SUFFIXES, recursive=False) if path.is_dir() else [path])
    ]
    if not queries:
        raise UserError(f"--query {' '.join(map(str, paths))}: no images found")
    return queries


def read_support(image_path: Path, mask_path: Path, size: int) -> View:
    """A support image and its mask, letterboxed to ``size``.

    In the mask file 0 is background and every other value the object; 255 marks no object, unless it is the only
    value apart from 0. Raises ``UserError``, also for a mask without object.
    """
    image, label = read_image(image_path), read_label(mask_path)
    check_same_size(image_path, image.shape[:2], mask_path, label.shape)
    values = set(np.unique(label).tolist()) - {0}
    if not values:
        raise UserError(f"{mask_path}: marks no object; its pixels must be other than 0")
    mask = (label > 0).astype(np.uint8)
    if values != {IGNORE}:
        mask[label == IGNORE] = IGNORE
    return ValTransform(size=size)(image, mask, rng=random.Random(0))


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
    logits = model(*(tensor[None].to(device) for tensor in inputs))[0]
    probability = to_original(logits, image.shape[:2], partial(content_size, size=size)).softmax(dim=0)[1]
    return Prediction((probability > 0.5).byte().cpu().numpy(), probability.cpu().numpy())


if __name__ == "__main__":
    run_command(main)
