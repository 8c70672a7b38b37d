"""Evaluation: predictions at the original size, scored over episodes (docs/method.md, section 12)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from engine.fitting import fitting_step
from engine.metrics import EpisodeMetrics, EpisodeScore
from model.episode_features import Features
from util.distributed import gathered, rank, world_size
from util.logging import logger

# (H0, W0) of an image -> (h, w) of its content in the top-left corner of the network's input.
ContentSize = Callable[[int, int], tuple[int, int]]
# One scored episode: its number in the test, batch, position in it, prediction (H0, W0) of 0/1, score.
OnPrediction = Callable[[int, Mapping[str, Any], int, Tensor, EpisodeScore], None]
# Difference of object's and background's logits (H, W), RGB uint8 (H, W, 3) -> probability of the object (H, W).
Refinement = Callable[[np.ndarray, np.ndarray], np.ndarray]
# Fields of a batch: images, or their features in their place.
_IMAGES = (("query_image", "query_features"), ("support_images", "support_features"))
# A test with a larger share of empty predictions than this has collapsed to background.
MAX_EMPTY_SHARE = 0.95


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[int, Mapping[str, Any]]],
    *,
    device: torch.device,
    content_size: ContentSize | None,
    refine: Refinement | None = None,
    slot: Callable[[int], int] = int,
    query_name: Callable[[int], str] = str,
    on_prediction: OnPrediction | None = None,
    total: int | None = None,
) -> EpisodeMetrics:
    """Score ``model`` on batches of evaluation episodes (``episodes.episode``), each with its first one's number.

    Several processes score what they are given and return the same: the scores of all, in the order of the test.

    ``content_size`` returns how much of the network's input an image covers; None stands for the published rule,
    which stretches the whole square over the longer side. ``refine`` gives predictions the borders of the batch's
    ``original_image``. ``slot(class_id)`` is the row of the metrics in which a class is counted, ``query_name(row)``
    the name in the scores of the image in a row of the list. ``on_prediction`` receives every prediction; ``total`` is
    the number of episodes, for the progress bar. A warning is logged when nearly all predictions are empty.
    """
    model.eval()
    metrics, numbers = EpisodeMetrics(), list[int]()
    share = None if total is None else -(-total // world_size())
    with tqdm(total=share, unit="episode", desc="test", mininterval=5, disable=rank() > 0) as progress:
        for first, batch in batches:
            start, targets = time.perf_counter(), batch["original_mask"]
            logits = fitting_step(partial(batch_logits, model, device=device), batch)
            predictions = _predictions(logits, batch, content_size, refine)
            metrics.seconds += time.perf_counter() - start
            for i, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
                class_id, query = int(batch["class_id"][i]), int(batch["query_index"][i])
                score = metrics.add(slot(class_id), query_name(query), prediction, target)
                if on_prediction is not None:
                    on_prediction(first + i, batch, i, prediction, score)
            numbers += range(first, first + len(targets))
            progress.update(len(targets))
    metrics = _of_all_processes(metrics, numbers)
    if metrics.episodes and metrics.empty_predictions > MAX_EMPTY_SHARE * metrics.episodes:
        logger.warning(
            "COLLAPSED: no object pixel in %d of %d predictions", metrics.empty_predictions, metrics.episodes
        )
    return metrics


def _of_all_processes(metrics: EpisodeMetrics, numbers: list[int]) -> EpisodeMetrics:
    """What all processes scored, by the ``numbers`` of the episodes in the test."""
    parts = gathered((metrics.seconds, dict(zip(numbers, metrics.scores, strict=True))))
    scores = {number: score for _, scores in parts for number, score in scores.items()}
    return EpisodeMetrics([scores[number] for number in sorted(scores)], sum(seconds for seconds, _ in parts))


def batch_logits(model: nn.Module, batch: Mapping[str, Any], device: torch.device) -> Tensor:
    """Logits (B, 2, H, W) for a batch of episodes, of images or of their features."""
    logits: Tensor = model(*_inputs(batch, device))
    return logits


def _predictions(
    logits: Tensor, batch: Mapping[str, Any], content_size: ContentSize | None, refine: Refinement | None
) -> list[Tensor]:
    """(H0, W0) of 0 and 1 for each episode, from logits (B, 2, H, W)."""
    targets = batch["original_mask"]
    images = batch["original_image"] if refine is not None else [None] * len(targets)
    return [
        (object_probability(one, target.shape, content_size, image, refine) > 0.5).byte()
        for one, target, image in zip(logits, targets, images, strict=True)
    ]


def _inputs(batch: Mapping[str, Any], device: torch.device) -> tuple[Any, Any, Tensor, Tensor, Tensor]:
    """The arguments of a network."""
    query, support = (_images(batch, *names, device) for names in _IMAGES)
    masks, *padding = (
        batch[name].to(device, non_blocking=True) for name in ("support_masks", "query_padding", "support_padding")
    )
    return query, support, masks, padding[0], padding[1]


def _images(batch: Mapping[str, Any], name: str, name_of_features: str, device: torch.device) -> Tensor | Features:
    if name_of_features in batch:
        return Features(*(maps.to(device, non_blocking=True) for maps in batch[name_of_features]))
    images: Tensor = batch[name].to(device, non_blocking=True)
    return images


def object_probability(
    logits: Tensor,
    size: Sequence[int],
    content_size: ContentSize | None,
    image: Tensor | None,
    refine: Refinement | None,
) -> Tensor:
    """Probability of the object at an image's own ``size`` (H0, W0), from logits (2, H, W) of the letterboxed input.

    ``image`` (H1, W1, 3) uint8 RGB is the image as it was read, perhaps smaller, for ``refine``. On the CPU; above 0.5
    is object.
    """
    if refine is None:
        background, object_ = to_original(logits, size, content_size).double().cpu()
        return (object_ - background).sigmoid()
    assert image is not None, "what is refined comes with its image"
    background, object_ = to_original(logits, image.shape[:2], content_size).cpu()
    probability = torch.from_numpy(refine((object_ - background).numpy(), image.numpy()))
    return probability if probability.shape == tuple(size) else _resize(probability[None], (size[0], size[1]))[0]


def to_original(logits: Tensor, size: Sequence[int], content_size: ContentSize | None) -> Tensor:
    """Logits (2, H, W) of the letterboxed input -> (2, H0, W0) of the image, ``size`` = (H0, W0)."""
    height, width = size
    if content_size is None:
        side = max(height, width)
        return _resize(logits, (side, side))[:, :height, :width]
    content_height, content_width = content_size(height, width)
    return _resize(logits[:, :content_height, :content_width], (height, width))


def _resize(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits[None].float(), size, mode="bilinear", align_corners=True)[0]
