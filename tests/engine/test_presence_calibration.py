"""The probability that an object is there: fitted to pairs whose similarity is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from engine import episode_presence, presence_calibration
from engine.presence_calibration import PRIOR, calibrate
from tests.model.networks import presence_similarity, random_episode, tiny_backbone


def episodes(table: np.ndarray, classes: list[int], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Episodes of which ``table`` [i, j] is the similarity of supports i and query j."""
    count = len(classes)
    fields = ("support_images", "support_masks", "support_padding", "query_image", "query_padding")
    rows = [
        {**{name: torch.tensor([float(i)]) for name in fields}, "class_id": number} for i, number in enumerate(classes)
    ]
    monkeypatch.setattr(episode_presence, "describe_objects", lambda _, images, *__: images[0])
    monkeypatch.setattr(episode_presence, "describe_queries", lambda _, image, *__: [image[0]])
    monkeypatch.setattr(
        presence_calibration, "similarities", lambda objects, query: torch.from_numpy(table[:count, int(query)])
    )
    return rows


def test_the_probability_is_that_of_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normal similarities of one variance: the logarithm of their ratio is known, and the prior shifts it."""
    rng = np.random.default_rng(0)
    table = rng.normal(0.3, 0.1, (200, 200))
    np.fill_diagonal(table, rng.normal(0.6, 0.1, 200))
    rows = episodes(table, [0] * 200, monkeypatch)
    slope, intercept = calibrate(tiny_backbone(), rows, torch.device("cpu"))
    assert slope == pytest.approx((0.6 - 0.3) / 0.1**2, rel=0.2)
    even_odds = (0.6 + 0.3) / 2 + np.log((1 - PRIOR) / PRIOR) / slope
    assert -intercept / slope == pytest.approx(even_odds, abs=0.03)


def test_other_queries_of_the_class_are_no_examples_of_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    classes = [i % 4 for i in range(100)]
    same = np.equal.outer(classes, classes)
    table = np.where(same, 0.6, 0.3) + rng.normal(0, 0.1, (100, 100))
    threshold = [-b / a for a, b in [calibrate(tiny_backbone(), episodes(table, c, monkeypatch), torch.device("cpu"))
                                     for c in (classes, [0] * 100)]]  # fmt: skip
    assert threshold[0] < threshold[1]


def test_it_measures_the_similarities_of_tests() -> None:
    """Of two episodes: supports with their own query and with the other's, as ``presence_similarity`` has them."""
    backbone, (query, supports, masks) = tiny_backbone(), random_episode(batch=2)
    nothing = torch.zeros(2, 65, 65).bool()
    rows = [
        {
            "support_images": supports[i], "support_masks": masks[i], "support_padding": nothing[i][None],
            "query_image": query[i], "query_padding": nothing[i], "class_id": i,
        }
        for i in range(2)
    ]  # fmt: skip
    own = presence_similarity(backbone, query, supports, masks, nothing, nothing[:, None])
    other = presence_similarity(backbone, query.flip(0), supports, masks, nothing, nothing[:, None])
    values, targets = torch.cat([own, other]).double().numpy(), [1, 1, 0, 0]
    weights = np.array([PRIOR, PRIOR, 1 - PRIOR, 1 - PRIOR]) * 2
    fit = LogisticRegression(C=np.inf, max_iter=1000).fit(values[:, None], targets, sample_weight=weights)
    expected = [float(fit.coef_[0, 0]), float(fit.intercept_[0])] if fit.coef_[0, 0] > 0 else [0, 0]
    assert calibrate(backbone, rows, torch.device("cpu")) == pytest.approx(expected, rel=1e-3)


def test_a_similarity_that_says_nothing_has_no_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(0.5, 0.1, (50, 50)) - 0.3 * np.eye(50)
    assert calibrate(tiny_backbone(), episodes(table, [0] * 50, monkeypatch), torch.device("cpu")) == [0, 0]
