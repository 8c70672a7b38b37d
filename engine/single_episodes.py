"""Single episodes of a test, predicted as the test predicts them, with the steps that led there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from engine.evaluate import ContentSize, Refinement, batch_logits, object_probability
from engine.metrics import EpisodeMetrics, EpisodeScore
from model.prediction_steps import Steps, recorded


class PredictedEpisode(NamedTuple):
    """An episode of a test with its prediction; (H0, W0) the query's own size."""

    number: int  # in the test
    batch: Mapping[str, Any]  # that it is part of (``episodes.episode.Batch``)
    place: int  # in the batch
    logits: Tensor  # (2, H, W) of the letterboxed input: background, object
    probability: Tensor  # (H0, W0) of the object, 0..1, refined where the test refines
    prediction: Tensor  # (H0, W0) uint8: 0 background, 1 object
    score: EpisodeScore
    steps: Steps | None  # of the whole batch; None for methods without training

    @property
    def truth(self) -> Tensor:
        """(H0, W0) int64: 0 background, 1 object, 255 not counted."""
        mask: Tensor = self.batch["original_mask"][self.place]
        return mask

    @property
    def class_id(self) -> int:
        return int(self.batch["class_id"][self.place])

    @property
    def query_index(self) -> int:
        """Row of the query in the image list."""
        return int(self.batch["query_index"][self.place])


@torch.inference_mode()
def predict_episode(
    model: nn.Module,
    number: int,
    numbered_batch: tuple[int, Mapping[str, Any]],
    *,
    device: torch.device,
    content_size: ContentSize | None,
    refine: Refinement | None,
    slot: Callable[[int], int],
    query_name: Callable[[int], str],
) -> PredictedEpisode:
    """Episode ``number`` of a test from its batch, which comes with the number of its first episode.

    The batch is predicted as a whole, as in the test, so that the prediction has the same bits. The other arguments
    are those of ``engine.evaluate.evaluate``.
    """
    first, batch = numbered_batch
    place = number - first
    with recorded(model.eval()) as recording:
        logits = batch_logits(model, batch, device)[place]
    truth, image = batch["original_mask"][place], batch["original_image"][place]
    probability = object_probability(logits, truth.shape, content_size, image, refine)
    prediction = (probability > 0.5).byte()
    class_id, query = int(batch["class_id"][place]), int(batch["query_index"][place])
    score = EpisodeMetrics().add(slot(class_id), query_name(query), prediction, truth)
    return PredictedEpisode(number, batch, place, logits.cpu(), probability, prediction, score, recording.steps)
