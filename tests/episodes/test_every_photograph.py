"""Every image as a query for every class: which episodes there are, and what they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from episodes.episode import Episode
from episodes.every_photograph import EveryPhotograph
from episodes.lists import ImageList
from episodes.transforms import ValTransform
from tests.episodes.drawn_images import COUNT, draw_label, row_of_view
from util.errors import UserError
from util.images import read_image


def make(images: ImageList, **options: Any) -> EveryPhotograph:
    settings: dict[str, Any] = {
        "classes": (1, 3),
        "shots": 2,
        "seed": 5,
        "transform": ValTransform(size=65),
        "min_area": 200,
    }
    return EveryPhotograph(images, **{**settings, **options})


def _query_and_class(episode: Episode) -> tuple[int, int]:
    return episode["query_index"], episode["class_id"]


def test_every_image_but_the_supports_is_a_query_of_every_class(images: ImageList) -> None:
    episodes = make(images)
    assert len(episodes) == 2 * (COUNT - 2)
    drawn = [episodes[(0, index)] for index in range(len(episodes))]
    assert [*map(_query_and_class, drawn)] == sorted(map(_query_and_class, drawn))
    for number in (1, 3):
        part = [episode for episode in drawn if episode["class_id"] == number]
        supports = {tuple(map(row_of_view, episode["support_images"])) for episode in part}
        (rows,) = supports
        assert len({*rows}) == 2 and all(1 + row % 3 == number for row in rows)
        assert [episode["query_index"] for episode in part] == [row for row in range(COUNT) if row not in rows]


def test_an_episode_of_each_class_and_of_each_query(images: ImageList) -> None:
    episodes = make(images)
    assert [episode["class_id"] for episode in episodes.of_each_class([(), ()])] == list(episodes.classes)
    assert episodes.queries == [*range(COUNT)]
    whole = {episode["query_index"]: episode for episode in (episodes[(0, index)] for index in range(len(episodes)))}
    for row, view in zip(episodes.queries, episodes.of_each_query(), strict=True):
        assert torch.equal(view["query_image"], whole[row]["query_image"])
        assert torch.equal(view["query_padding"], whole[row]["query_padding"])
    asked = {_query_and_class(episodes[(0, index)]) for index in range(len(episodes))}
    for position, row in np.argwhere(episodes.asked).tolist():
        number = episodes.numbers[position, row]
        assert _query_and_class(episodes[(0, number)]) == (row, episodes.classes[position])
    assert (episodes.numbers[~episodes.asked] == -1).all()
    table = {(row, episodes.classes[position]) for position, row in np.argwhere(episodes.asked).tolist()}
    assert table == asked


def test_further_supports_follow_those_of_the_class(images: ImageList) -> None:
    episodes = make(images)
    transform = ValTransform(size=65)
    views = [transform(read_image(images.image_path(row)), draw_label(row) // 255) for row in (3, 7)]
    plain, extended = episodes[0, 4], episodes.extended(4, views)
    for before, after, added in (
        (plain["support_images"], extended["support_images"], [view.image for view in views]),
        (plain["support_masks"], extended["support_masks"], [view.mask for view in views]),
        (plain["support_padding"], extended["support_padding"], [view.padding for view in views]),
    ):
        assert torch.equal(after, torch.cat([before, torch.stack(added)]))
    assert torch.equal(extended["query_image"], plain["query_image"])


def test_queries_hold_the_object_or_not(images: ImageList) -> None:
    episodes = make(images)
    for index in range(len(episodes)):
        episode = episodes[(0, index)]
        label = torch.from_numpy(draw_label(episode["query_index"]))
        assert torch.equal(episode["original_mask"] == 1, label == episode["class_id"])
        assert torch.equal(episode["original_mask"] == 255, label == 255)
        assert all((mask == 1).any() for mask in episode["support_masks"])


def test_supports_of_a_class_do_not_depend_on_other_classes_but_on_the_seed(images: ImageList) -> None:
    alone = [make(images, classes=(3,), seed=seed).draw((0, 0)).objects for seed in range(9)]
    beside = [make(images, seed=5).draw((0, index)) for index in range(3)]
    together = next(task.objects for task in beside if task.class_id == 3)
    rows = [tuple(number % COUNT for number in objects[1:]) for objects in (*alone, together)]
    assert rows[5] == rows[-1] and len({*rows}) > 1


def test_a_class_with_too_few_images_is_left_out(images: ImageList, caplog: pytest.LogCaptureFixture) -> None:
    episodes = make(images, classes=(1, 4))
    assert episodes.classes == (1,) and len(episodes) == COUNT - 2
    assert "class 4 has 0: left out" in caplog.text
    with pytest.raises(UserError, match="class 4 has 0; label more images"):
        make(images, classes=(4,))
