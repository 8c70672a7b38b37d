"""From the similarity of supports and query to a probability that the object is there (docs/method.md, section 12)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from engine.episode_presence import describe_queries_of, describe_supports_of
from model.frozen.backbone import Backbone
from model.frozen.feature_cache import FeatureCache
from model.presence import similarities

# As likely as not: with a tenth, as it is in a folder, nothing was kept of a test (docs/recipe.md).
PRIOR = 0.5
EPISODES = 64


def calibrate(
    backbone: Backbone | FeatureCache, episodes: Sequence[Mapping[str, Any]], device: torch.device
) -> list[float]:
    """Slope and intercept of the logistic function that turns a similarity into a probability.

    Fitted to episodes (``episodes.episode.Episode``), in which the object is in the query, and to the supports of each
    with the queries of the others, in which it is as a rule not; those of the same ``class_id`` are left out, unless
    all have one. The former weigh as much as ``PRIOR`` says. Zeros where a similarity says nothing.
    """
    from sklearn.linear_model import LogisticRegression  # a second to import

    objects = describe_supports_of(backbone, episodes, device)
    columns = [similarities(objects, query) for query in describe_queries_of(backbone, episodes, device)]
    table = torch.stack(columns, dim=1).double().cpu().numpy()  # [i, j]: supports of i, query of j
    present = np.eye(len(episodes), dtype=bool)
    classes = np.array([episode["class_id"] for episode in episodes])
    absent = classes[:, None] != classes if len({*classes}) > 1 else ~present
    values, targets = np.concatenate([table[present], table[absent]]), np.repeat([1, 0], [present.sum(), absent.sum()])
    weights = np.where(targets, PRIOR / present.sum(), (1 - PRIOR) / absent.sum())
    fit = LogisticRegression(C=np.inf, max_iter=1000).fit(values[:, None], targets, sample_weight=weights * len(values))
    slope, intercept = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    return [slope, intercept] if slope > 0 else [0.0, 0.0]
