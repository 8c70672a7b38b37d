"""Fixed views: which they are, who takes them, and batches of their features, stored or not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from episodes.episode import collate, fit_mask, read_example
from episodes.fixed_views import Drawable, FeatureBatches, FixedViews
from episodes.lists import ImageList
from episodes.loaders import make_loader
from episodes.pseudo import PseudoEpisodes
from episodes.supervised import SupervisedEpisodes
from episodes.transforms import TrainTransform, View
from episodes.view_store import ViewShape, ViewStore
from tests.episodes.viewed_episodes import as_episode
from util.seed import python_random

TRAIN = TrainTransform(height=33, width=41, scale_range=(0.8, 1.25), rotate_range=(-10.0, 10.0))
SHAPE = ViewShape(image=(33, 41), maps=(5, 6), mid_channels=2, high_channels=3)
KEYS = [(epoch, index) for epoch in (0, 1) for index in range(12)]
Episodes = PseudoEpisodes | SupervisedEpisodes


@pytest.fixture(params=["pseudo", "supervised"])
def episodes(images: ImageList, pseudo_folder: Path, request: pytest.FixtureRequest) -> Episodes:
    if request.param == "pseudo":
        return PseudoEpisodes(images, pseudo_folder, shots=2, seed=5, transform=TRAIN)
    return SupervisedEpisodes(images, (1, 2, 3), shots=2, seed=5, transform=TRAIN, min_area=200)


@pytest.fixture
def views(episodes: Episodes, tmp_path: Path) -> FixedViews:
    return FixedViews(episodes, 3, ViewStore.of(tmp_path / "views", SHAPE, {}))


class Backbone:
    """Two and three colours at every eighth pixel, in half precision; counts its images."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.images += len(images)
        maps = images[..., ::8, ::8].half().float()
        return maps[:, :2], maps


def batches(views: FixedViews, backbone: Backbone, *, workers: int = 0, batch_size: int = 4) -> list[dict[str, Any]]:
    loader = make_loader(views, epoch=0, episodes=12, batch_size=batch_size, workers=workers, drop_last=True, join=list)
    read = list(FeatureBatches(loader, views, backbone, torch.device("cpu")))
    assert len(read) == len(loader)
    return read


def equal(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> bool:
    return all(
        torch.equal(*pair)
        for batch, other in zip(first, second, strict=True)
        for pair in zip(tensors(batch), tensors(other), strict=True)
    )


def tensors(batch: dict[str, Any]) -> list[Tensor]:
    return [tensor for value in batch.values() for tensor in (value if isinstance(value, tuple) else (value,))]


def naive_view(episodes: Drawable, number: int, which: int) -> View:
    example = episodes.example(number)
    image, mask = read_example(example)
    rng = python_random("view", example.image.stem, example.object_id, which)
    return TRAIN(image, fit_mask(mask, image), rng=rng)


def test_a_view_is_the_transform_with_a_generator_of_its_own(views: FixedViews) -> None:
    for number in range(views.episodes.objects):
        for which in range(views.count):
            expected = naive_view(views.episodes, number, which)
            view = views.view(which * views.episodes.objects + number)
            assert all(torch.equal(*pair) for pair in zip(view, expected, strict=True))
    first = [naive_view(views.episodes, 0, which).mask for which in range(3)]
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[1], first[2])


def test_queries_classes_and_supports_are_those_of_new_augmentations(views: FixedViews, episodes: Episodes) -> None:
    taken = set()
    for key in KEYS:
        task, drawn, plain = views[key], episodes.draw(key), episodes[key]
        assert (task.class_id, task.query_index) == (plain["class_id"], plain["query_index"])
        assert tuple(row % episodes.objects for row in task.rows) == drawn.objects
        assert len(task.rows) == 3
        taken |= {row // episodes.objects for row in task.rows}
        assert views[key].rows == task.rows
    assert taken == {0, 1, 2}


def test_one_view_is_always_the_same(episodes: Episodes, tmp_path: Path) -> None:
    views = FixedViews(episodes, 1, ViewStore.of(tmp_path, SHAPE, {}))
    assert all(views[key].rows == episodes.draw(key).objects for key in KEYS)


def test_a_batch_is_what_the_backbone_makes_of_the_views(views: FixedViews) -> None:
    objects = views.episodes.objects
    for number, batch in enumerate(batches(views, Backbone())):
        tasks = [views[0, 4 * number + i] for i in range(4)]
        seen = [[naive_view(views.episodes, row % objects, row // objects) for row in task.rows] for task in tasks]
        expected: dict[str, Any] = dict(collate(list(map(as_episode, tasks, seen))))
        for side, images in (("query", "query_image"), ("support", "support_images")):
            features = Backbone()(expected.pop(images).flatten(0, -4))
            assert all(torch.equal(*pair) for pair in zip(batch.pop(f"{side}_features"), features, strict=True))
        assert batch.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(batch[name], value) and batch[name].dtype == value.dtype, name


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_batches_are_the_same_stored_or_not_and_with_any_number_of_workers(views: FixedViews) -> None:
    backbone = Backbone()
    first = batches(views, backbone)
    rows = {row for index in range(12) for row in views[0, index].rows}
    assert backbone.images == len(rows) and all(view is None for index in range(12) for view in views[0, index].views)
    for workers in (0, 1, 3):
        assert equal(first, batches(views, backbone, workers=workers))
    assert backbone.images == len(rows)
    for workers in (1, 3):
        shutil.rmtree(views.store.folder)
        assert equal(first, batches(views, backbone, workers=workers))
    assert backbone.images == 3 * len(rows)


def test_a_row_that_is_lost_after_a_worker_saw_it_is_made_again(views: FixedViews) -> None:
    first, backbone = batches(views, Backbone()), Backbone()

    class Deleting:
        def __iter__(self) -> Any:
            for tasks in make_loader(views, epoch=0, episodes=12, batch_size=4, workers=0, drop_last=True, join=list):
                shutil.rmtree(views.store.folder, ignore_errors=True)
                yield tasks

    again = list(FeatureBatches(Deleting(), views, backbone, torch.device("cpu")))
    assert equal(first, again) and backbone.images > 0


def test_more_views_take_those_that_are_there(views: FixedViews) -> None:
    batches(views, Backbone())
    stored = {row for row in range(3 * views.episodes.objects) if views.store.read(row) is not None}
    more, backbone = FixedViews(views.episodes, 5, views.store), Backbone()
    needed = {row for index in range(12) for row in more[0, index].rows}
    batches(more, backbone)
    assert backbone.images == len(needed - stored) < len(needed)
