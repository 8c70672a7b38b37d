"""Segment your own images: ``python predict.py --checkpoint C --support IMAGE MASK --query PATH...``."""

from __future__ import annotations

import os
import random
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.evaluate import to_original
from engine.prediction_files import PredictionFolder, output_names
from episodes.transforms import ValTransform, View, content_size
from model import FSSModel, load_model
from util.arguments import Parser, whole_number
from util.device import choose_device
from util.distributed import require_one_process
from util.errors import UserError, run_command
from util.images import check_same_size, read_image
from util.images.image_folders import list_images
from util.images.mask_files import doubt_about, read_object
from util.logging import logger, start_logging

# An object of fewer pixels in the network's input may fall between the positions of its features, 8 x 8 pixels each.
_FEW_PIXELS = 64


class Support(NamedTuple):
    """An annotated image: RGB uint8 (H, W, 3), and its mask, uint8 (H, W): 1 object, 0 background, 255 not counted."""

    path: Path
    image: np.ndarray
    mask: np.ndarray


class Prediction(NamedTuple):
    """The prediction for an image of H x W pixels."""

    mask: np.ndarray  # (H, W) uint8, 1 object, 0 background
    probability: np.ndarray  # (H, W) float32 in 0..1, of the object


def main(arguments: list[str]) -> None:
    """Parse the command line; write a mask, a probability map and an overlay for each query."""
    parser = Parser(prog="predict.py", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--support", nargs=2, type=Path, action="append", required=True, metavar=("IMAGE", "MASK"))
    parser.add_argument(
        "--class", dest="value", type=whole_number(1, 255), metavar="VALUE", help="of the object, in masks of several"
    )
    parser.add_argument("--query", nargs="+", type=Path, required=True, help="images, or folders of them")
    parser.add_argument("--output", type=Path, default=Path("predictions"), help="folder (%(default)s)")
    parsed = parser.parse_args(arguments)
    require_one_process("predict.py")
    start_logging()
    output = PredictionFolder(parsed.output)
    names = output_names(find_queries(parsed.query, leave_out=output.written()))
    supports = [read_support(image, mask, parsed.value) for image, mask in parsed.support]
    model = load_model(parsed.checkpoint).to(choose_device([0]))
    assert model.settings is not None  # every checkpoint holds them
    size = model.settings.val_size
    views = [view_of_support(support, size) for support in supports]
    output.reserve(names, inputs=[*names, *(path for pair in parsed.support for path in pair)])
    _predict_all(model, names, views, size, output)


def find_queries(paths: Sequence[Path], leave_out: Collection[Path] = ()) -> list[Path]:
    """The images among ``paths`` and directly in the folders among them, each once; in folders, ``leave_out`` is not.

    Raises ``UserError`` for a folder without images.
    """
    queries: dict[str, Path] = {}
    for path in paths:
        files = [path]
        if path.is_dir():
            files = [file for file in list_images(path, recursive=False) if file.resolve() not in leave_out]
            if not files:
                deeper = len(list_images(path))
                advice = f"; {deeper} are in folders below it: name these" if deeper else ""
                raise UserError(f"--query {path}: no images found in it{advice}")
        for file in files:
            queries.setdefault(os.path.abspath(file), file)
    return list(queries.values())


def read_support(image_path: Path, mask_path: Path, value: int | None = None) -> Support:
    """Read an annotated image and say how its mask was understood; ``value`` is the object's in a mask of several.

    Raises ``UserError``, also for a mask without object.
    """
    image, mask = read_image(image_path), read_object(mask_path, value)
    check_same_size(image_path, image.shape[:2], mask_path, mask.ids.shape)
    logger.info("%s: %s", mask_path, mask.understood)
    doubt = doubt_about(mask.ids)
    if doubt is not None:
        logger.warning("WARNING: %s: %s", mask_path, doubt)
    return Support(mask_path, image, mask.ids)


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


def _predict_all(
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
            logger.info("%s: %.1f %% object", path, 100 * prediction.mask.mean())
    if problems:
        more = f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""
        raise UserError(problems[0] + more)


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
