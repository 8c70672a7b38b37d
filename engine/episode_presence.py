"""What supports and queries of episodes show, as ``model.presence`` compares it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from model.frozen.backbone import Backbone
from model.frozen.feature_cache import FeatureCache
from model.presence import describe_objects, describe_queries

Episodes = Iterable[Mapping[str, Any]]
"""``episodes.episode.Episode``, one after the other."""


def describe_supports_of(backbone: Backbone | FeatureCache, episodes: Episodes, device: torch.device) -> Tensor:
    """(E, D): the supports' object in each episode."""
    names = ("support_images", "support_masks", "support_padding")
    return torch.cat([describe_objects(backbone, *_tensors(episode, names, device)) for episode in episodes])


def describe_queries_of(
    backbone: Backbone | FeatureCache, queries: Iterable[Mapping[str, Any]], device: torch.device
) -> Iterator[Tensor]:
    """(P, D) for each query, which is an episode or what of it concerns the query; one at a time."""
    names = ("query_image", "query_padding")
    return (describe_queries(backbone, *_tensors(query, names, device))[0] for query in queries)


def _tensors(episode: Mapping[str, Any], names: Iterable[str], device: torch.device) -> list[Tensor]:
    """With an axis for a batch of one."""
    return [episode[name][None].to(device) for name in names]
