"""Episodes of views that are given."""

from __future__ import annotations

from collections.abc import Sequence

from episodes.episode import Episode, join_views
from episodes.fixed_views import ViewedTask
from episodes.transforms import View


def as_episode(task: ViewedTask, views: Sequence[View]) -> Episode:
    """The episode of a task with its views, the query's first."""
    query, *supports = views
    return join_views(query, supports, class_id=task.class_id, query_index=task.query_index)
