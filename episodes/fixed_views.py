"""Training on a fixed number of augmented views of each object, whose frozen features are computed once.

Workers draw episodes and augment the views that are not stored yet (``FixedViews``); the process that has the backbone
computes and stores their features, and makes batches of what is stored (``FeatureBatches``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from episodes.episode import EpisodeKey, Example, Task, fit_mask, read_example
from episodes.transforms import Transform, View
from episodes.view_store import ViewStore
from util.seed import python_random

# Images (B, 3, H, W) -> mid (B, Cm, h, w), high (B, Ch, h, w)
_Backbone = Callable[[Tensor], tuple[Tensor, Tensor]]


class Drawable(Protocol):
    """A data set of episodes that are drawn before anything is read; its objects have numbers."""

    transform: Transform

    @property
    def objects(self) -> int: ...

    def draw(self, key: EpisodeKey) -> Task: ...

    def example(self, number: int) -> Example: ...


class ViewedTask(NamedTuple):
    """An episode by the rows of its views, the query's first, with the views that were not stored."""

    rows: tuple[int, ...]
    views: tuple[View | None, ...]
    class_id: int
    query_index: int


class FixedViews(Dataset[ViewedTask]):
    """The episodes of a data set on ``count`` fixed views of each object.

    Queries, classes and supports are those of ``episodes``; each takes one of its views, drawn by the episode's own
    generator. A view is augmented by a generator that depends on image, object and number of the view alone, so other
    seeds train on the same views. It is row ``number * objects + object`` of the store: more views of each object are
    more rows.
    """

    def __init__(self, episodes: Drawable, count: int, store: ViewStore) -> None:
        self.episodes = episodes
        self.count = count
        self.store = store

    def __getitem__(self, key: EpisodeKey) -> ViewedTask:
        task, objects = self.episodes.draw(key), self.episodes.objects
        rows = tuple(task.rng.randrange(self.count) * objects + number for number in task.objects)
        # Reading a row here also brings it into memory, before the process that trains needs it.
        views = tuple(self.view(row) if self.store.read(row) is None else None for row in rows)
        return ViewedTask(rows, views, task.class_id, task.query_index)

    def view(self, row: int) -> View:
        """The view of a row of the store. Raises ``UserError`` for a file that cannot be used."""
        which, number = divmod(row, self.episodes.objects)
        example, transform = self.episodes.example(number), self.episodes.transform
        image, mask = read_example(example, transform.useful_side)
        rng = python_random("view", example.image.stem, example.object_id, which)
        return transform(image, fit_mask(mask, image), rng=rng)


class FeatureBatches:
    """Batches of features, from a loader of ``FixedViews``."""

    def __init__(self, loader: Any, views: FixedViews, backbone: _Backbone, device: torch.device) -> None:
        self.loader = loader
        self.views = views
        self.backbone = backbone
        self.device = device

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for tasks in self.loader:
            yield self._batch(tasks)

    def _batch(self, tasks: Sequence[ViewedTask]) -> dict[str, Any]:
        """The fields of ``Batch``, with ``query_features`` and ``support_features`` in the place of the images.

        Features are mid (N, Cm, h, w) and high (N, Ch, h, w), float16 in channels-last memory; N is B or B * K.
        """
        rows = [[self._row(*view) for view in zip(task.rows, task.views, strict=True)] for task in tasks]
        queries, supports = [query for query, *_ in rows], [support for _, *others in rows for support in others]
        shots = (len(tasks), -1)
        return {
            "query_features": (_features(queries, "mid"), _features(queries, "high")),
            "query_mask": _stacked(queries, "mask").long(),
            "query_padding": _stacked(queries, "padding"),
            "support_features": (_features(supports, "mid"), _features(supports, "high")),
            "support_masks": _stacked(supports, "mask").long().unflatten(0, shots),
            "support_padding": _stacked(supports, "padding").unflatten(0, shots),
            "class_id": torch.tensor([task.class_id for task in tasks]),
            "query_index": torch.tensor([task.query_index for task in tasks]),
        }

    def _row(self, number: int, view: View | None) -> np.void:
        """A row of the store, which is computed and stored where it is missing."""
        store = self.views.store
        row = store.read(number)  # an episode before this one may have had it
        if row is None:
            view = self.views.view(number) if view is None else view
            # One at a time: what is computed together may change the last bits on a GPU.
            mid, high = (maps[0].cpu().numpy() for maps in self.backbone(view.image[None].to(self.device)))
            row = store.shape.row(mid, high, view.mask.numpy(), view.padding.numpy())
            store.write(number, row)
        return row


def _features(rows: Sequence[np.void], name: str) -> Tensor:
    return _stacked(rows, name).permute(0, 3, 1, 2)


def _stacked(rows: Sequence[np.void], name: str) -> Tensor:
    return torch.from_numpy(np.stack([row[name] for row in rows]))
