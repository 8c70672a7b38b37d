"""Supervised episodes: what they may hold, and that nothing but their key decides what they hold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from episodes.episode import Episode, Example, read_example
from episodes.lists import ImageList, read_list, write_list
from episodes.supervised import SupervisedEpisodes
from episodes.transforms import TrainTransform, ValTransform
from tests.episodes.drawn_images import draw_label, row_of_view, write_image_of_row
from util.errors import UserError
from util.images import write_image, write_label

CLASSES = (1, 2, 3)
TRAIN = TrainTransform(height=41, width=33, scale_range=(0.8, 1.25), rotate_range=(-10.0, 10.0))
AREA = 200


def make(images: ImageList, **options: Any) -> SupervisedEpisodes:
    """Two-shot episodes on unaugmented views, unless ``options`` say otherwise."""
    settings: dict[str, Any] = {
        "classes": CLASSES,
        "shots": 2,
        "seed": 5,
        "transform": ValTransform(size=65),
        "min_area": AREA,
    }
    return SupervisedEpisodes(images, **{**settings, **options})


def assert_same(first: Episode, second: Episode) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(second[name])), name  # type: ignore[literal-required]


def test_shapes_types_and_values(images: ImageList) -> None:
    episode = make(images, transform=TRAIN)[(0, 0)]
    assert episode["query_image"].shape == (3, 41, 33) and episode["query_image"].dtype == torch.float32
    assert episode["query_mask"].shape == (41, 33) and episode["query_mask"].dtype == torch.int64
    assert episode["query_padding"].shape == (41, 33) and episode["query_padding"].dtype == torch.bool
    assert episode["support_images"].shape == (2, 3, 41, 33)
    assert episode["support_masks"].shape == episode["support_padding"].shape == (2, 41, 33)
    assert set(episode["query_mask"].unique().tolist()) <= {0, 1, 255}
    assert "original_mask" not in episode


def test_supports_are_distinct_other_images_of_the_class(images: ImageList) -> None:
    episodes = make(images, shots=4)
    for index in range(3 * len(episodes)):
        episode = episodes[(0, index)]
        query = row_of_view(episode["query_image"])
        supports = [row_of_view(view) for view in episode["support_images"]]
        assert query == episode["query_index"]
        assert len({query, *supports}) == 5
        assert {1 + row % 3 for row in (query, *supports)} == {episode["class_id"]}
        assert all((mask == 1).any() for mask in episode["support_masks"])


def test_void_stays_255_and_is_padding_or_background_only_when_asked(images: ImageList) -> None:
    plain = make(images)[(0, 3)]
    background = make(images, support_void="background")[(0, 3)]
    assert torch.equal(background["support_masks"] == 1, plain["support_masks"] == 1)
    assert not (background["support_masks"][~background["support_padding"]] == 255).any()
    for void_is_padding in (False, True):
        episode = make(images, support_void="padding")[(0, 3)] if void_is_padding else plain
        for mask, padding in zip(episode["support_masks"], episode["support_padding"], strict=True):
            void = (mask == 255) & (torch.arange(65) < 24)  # left of any padding
            assert void.any()
            assert padding[void].all() == void_is_padding
        assert not episode["query_padding"][12:40, 8:24].any()


def test_small_objects_are_nobody_s_object(images: ImageList, caplog: pytest.LogCaptureFixture) -> None:
    """Class 4 covers 25 pixels: query and support obey the area rule alike."""
    episodes = make(images, classes=(1, 4))
    assert "2 shots need 3 images of a class with 200 pixels of it, but class 4 has 0: left out" in caplog.text
    assert len(episodes) == 5
    assert {episodes[(0, index)]["class_id"] for index in range(30)} == {1}
    chosen = {make(images, classes=(1, 4), min_area=25, shots=1)[(0, index)]["class_id"] for index in range(30)}
    assert chosen == {1, 4}


def test_images_with_dropped_classes_are_left_out(images: ImageList) -> None:
    episodes = make(images, drop_classes=(4,), shots=1)
    rows = {episodes[(0, index)]["query_index"] for index in range(len(episodes))}
    assert rows == {row for row in range(len(images)) if row % 5 != 0}


def test_other_classes_are_background(images: ImageList) -> None:
    """Image 0 has classes 1 and 4; as an episode of class 1 its class 4 pixels are 0."""
    episode = make(images, evaluation=True)[(0, 0)]
    expected = np.where(draw_label(0) == 1, 1, np.where(draw_label(0) == 255, 255, 0))
    np.testing.assert_array_equal(episode["original_mask"].numpy(), expected)


def test_evaluation_goes_through_the_list_in_order_with_fresh_supports(images: ImageList) -> None:
    episodes = make(images, evaluation=True, shots=1, classes=(1, 2))
    usable = [row for row in range(len(images)) if row % 3 < 2]
    assert len(episodes) == len(usable)
    assert [episodes[(0, index)]["query_index"] for index in range(25)] == (usable * 3)[:25]
    supports = {row_of_view(episodes[(0, lap * len(usable))]["support_images"][0]) for lap in range(8)}
    assert len(supports) > 1


def test_training_visits_every_image_once_an_epoch_in_a_new_order(images: ImageList) -> None:
    episodes = make(images)
    orders = [[episodes[(epoch, index)]["query_index"] for index in range(len(images))] for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(len(images)))
    assert orders[0] != orders[1]


def test_an_episode_depends_on_its_key_and_the_seed_alone(images: ImageList) -> None:
    episodes = make(images, transform=TRAIN)
    keys = [(epoch, index) for epoch in (0, 1) for index in range(6)]
    forward = {key: episodes[key] for key in keys}
    other = make(images, transform=TRAIN)
    for key in reversed(keys):
        assert_same(other[key], forward[key])
    different = make(images, transform=TRAIN, seed=6)[(0, 0)]
    assert not torch.equal(different["query_image"], forward[(0, 0)]["query_image"])


def test_classes_and_supports_are_drawn_evenly(tmp_path: Path) -> None:
    """Every image holds both classes: half of the episodes each, every support equally often."""
    pairs = [(f"photo_{row}.png", f"label_{row}.png") for row in range(5)]
    for row, (image, label) in enumerate(pairs):
        write_image_of_row(tmp_path / image, row)
        halves = np.ones_like(draw_label(row))
        halves[20:] = 2
        write_label(tmp_path / label, halves)
    write_list(tmp_path / "list.txt", pairs)
    episodes = make(read_list(tmp_path / "list.txt", tmp_path, need_labels=True), classes=(1, 2), shots=1)
    drawn = [episodes[(0, index)] for index in range(600)]
    classes = Counter(episode["class_id"] for episode in drawn)
    supports = Counter(row_of_view(episode["support_images"][0]) for episode in drawn)
    assert all(250 < count < 350 for count in classes.values()) and len(classes) == 2
    assert all(85 < count < 155 for count in supports.values()) and len(supports) == 5


def test_a_class_with_too_few_images_is_named_at_the_start(images: ImageList) -> None:
    with pytest.raises(UserError, match=r"train\.txt: 5 shots need 6 images .* class 1 has 5, class 2 has 5") as caught:
        make(images, shots=5)
    assert "\n" not in str(caught.value)


def test_a_label_that_no_longer_fits_its_image_is_named(images: ImageList) -> None:
    episodes = make(images, evaluation=True)
    write_label(images.label_path(0), np.zeros((10, 12), dtype=np.uint8))
    with pytest.raises(UserError, match=r"photo_00\.png: the label is 12x10 pixels"):
        episodes[(0, 0)]


def test_large_images_are_read_smaller_and_their_masks_fit(tmp_path: Path) -> None:
    """At a fifth of its side the object is where it would be, and the mask that is scored keeps every pixel."""
    label = np.zeros((300, 400), dtype=np.uint8)
    label[100:200, 120:320] = 1
    pairs = [(f"photo_{row}.jpg", f"photo_{row}.png") for row in range(3)]
    for image, name in pairs:
        write_image(tmp_path / image, np.where(label[..., None] == 1, 200, 40).astype(np.uint8).repeat(3, axis=2))
        write_label(tmp_path / name, label)
    write_list(tmp_path / "train.txt", pairs)
    images = read_list(tmp_path / "train.txt", tmp_path, need_labels=True)
    episode = make(images, classes=(1,), shots=1, transform=ValTransform(size=80), evaluation=True)[(0, 0)]
    assert torch.equal(episode["original_mask"], torch.from_numpy(label.astype(np.int64)))
    expected = torch.zeros(56, 80, dtype=torch.int64)
    expected[19:38, 24:64] = 1  # a fifth of the label's sides, 60 rows brought to 56
    for view, mask in (
        (episode["query_image"], episode["query_mask"]),
        (episode["support_images"][0], episode["support_masks"][0]),
    ):
        assert (mask[:56] != expected).float().mean() < 0.01
        assert ((view[0, :56] > 0) != (mask[:56] == 1)).float().mean() < 0.01
    write_label(tmp_path / "photo_1.png", label[:, :-4])
    with pytest.raises(UserError, match=r"photo_1\.png: the label is 396x300 pixels, but .* is 400x300"):
        read_example(Example(tmp_path / "photo_1.jpg", tmp_path / "photo_1.png", 1), 80)
