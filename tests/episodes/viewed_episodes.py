"""Episodes of views that are given."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from episodes.episode import Episode
from episodes.fixed_views import ViewedTask
from episodes.transforms import View


def as_episode(task: ViewedTask, views: Sequence[View]) -> Episode:
    """The episode of a task with its views, the query's first."""
    query, *supports = views
    return Episode(
        query_image=query.image,
        query_mask=query.mask,
        query_padding=query.padding,
        support_images=torch.stack([view.image for view in supports]),
        support_masks=torch.stack([view.mask for view in supports]),
        support_padding=torch.stack([view.padding for view in supports]),
        class_id=task.class_id,
        query_index=task.query_index,
    )
