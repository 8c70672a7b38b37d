"""An episode that is predicted alone has the prediction and the score that it has in the test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.evaluate import evaluate
from engine.metrics import EpisodeScore
from engine.single_episodes import predict_episode
from model.baselines import Baseline
from tests.engine.padded_batch import SIZE, batch_of
from tests.model.networks import tiny_backbone, tiny_model


def lowered(difference: np.ndarray, image: np.ndarray) -> np.ndarray:
    """A refinement."""
    return 1 / (1 + np.exp(0.1 - difference))


@pytest.mark.parametrize("refine", [None, lowered])
@pytest.mark.parametrize("method", ["network", "prototype"])
def test_as_in_the_test(method: str, refine: Any) -> None:
    model = tiny_model(contrast_residual=True) if method == "network" else Baseline(method, tiny_backbone())
    batches = [(first, {**batch_of(), "query_index": torch.tensor([first, first + 1])}) for first in (0, 2)]
    batches[1][1]["query_image"] = batches[1][1]["query_image"].flip(-1)
    in_test: dict[int, tuple[Tensor, EpisodeScore]] = {}

    def keep(number: int, batch: Any, i: int, prediction: Tensor, score: EpisodeScore) -> None:
        in_test[number] = prediction, score

    options: dict[str, Any] = {
        "device": torch.device("cpu"), "content_size": SIZE, "refine": refine, "slot": int, "query_name": str
    }  # fmt: skip
    evaluate(model, batches, on_prediction=keep, **options)
    for number in (3, 0, 1):
        alone = predict_episode(model, number, batches[number // 2], **options)
        prediction, score = in_test[number]
        assert torch.equal(alone.prediction, prediction) and alone.score == score
        assert torch.equal(alone.prediction == 1, alone.probability > 0.5)
    assert len({score.areas for _, score in in_test.values()}) > 1
