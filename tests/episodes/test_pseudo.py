"""Pseudo episodes: neighbours as supports, no label opened, folders that do not fit are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from episodes.lists import ImageList, read_list, write_list
from episodes.pseudo import PseudoEpisodes
from episodes.pseudo_files import PseudoFiles
from episodes.transforms import ValTransform
from tests.episodes.drawn_images import COUNT, row_of_view
from util.errors import UserError


def make(images: ImageList, folder: Path, **options: Any) -> PseudoEpisodes:
    settings: dict[str, Any] = {"shots": 2, "seed": 5, "transform": ValTransform(size=65)}
    return PseudoEpisodes(images, folder, **{**settings, **options})


def test_episodes_need_no_label_folder(unlabelled: ImageList, pseudo_folder: Path) -> None:
    assert not (unlabelled.root / "SegmentationClassAug").exists()
    episodes = make(unlabelled, pseudo_folder)
    assert len(episodes) == COUNT
    episode = episodes[(0, 0)]
    assert episode["support_images"].shape == (2, 3, 65, 65)
    assert set(episode["query_mask"].unique().tolist()) == {0, 1, 255}
    assert "original_mask" not in episode


def test_supports_are_distinct_images_with_the_group_s_region(unlabelled: ImageList, pseudo_folder: Path) -> None:
    episodes = make(unlabelled, pseudo_folder, shots=5)
    groups = set()
    for index in range(3 * COUNT):
        episode = episodes[(index // COUNT, index)]
        rows = [row_of_view(view) for view in (episode["query_image"], *episode["support_images"])]
        assert rows[0] == episode["query_index"]
        assert len(set(rows)) == 6
        groups.add(episode["class_id"])
        # Region 7 (group 0) lies left of region 9 (group 1).
        for mask, row in zip((episode["query_mask"], *episode["support_masks"]), rows, strict=True):
            columns = (mask == 1).nonzero()[:, 1].float().mean() * _stretch(row)
            assert (columns > 15) == (episode["class_id"] == 1)
    assert groups == {0, 1}  # group 2 has a single region, which is left out


def _stretch(row: int) -> float:
    """Original pixels per pixel of the 64 pixel view."""
    return (80, 80, 75, 97, 90)[row % 5] / 64


def test_supports_are_drawn_among_the_nearest(unlabelled: ImageList, pseudo_folder: Path) -> None:
    episodes = make(unlabelled, pseudo_folder, shots=2, neighbours=2)
    for index in range(COUNT):
        episode = episodes[(0, index)]
        table = episodes.table
        mine = (table.image == episode["query_index"]) & (table.group == episode["class_id"])
        nearest = table.neighbours(int(mine.nonzero()[0][0]), 2)
        drawn = {row_of_view(view) for view in episode["support_images"]}
        assert drawn == set(table.image[nearest].tolist())


def test_an_episode_depends_on_its_key_and_the_seed_alone(unlabelled: ImageList, pseudo_folder: Path) -> None:
    first, second = make(unlabelled, pseudo_folder), make(unlabelled, pseudo_folder)
    keys = [(epoch, index) for epoch in (0, 1) for index in range(5)]
    images = {key: first[key]["support_images"] for key in keys}
    assert all(torch.equal(second[key]["support_images"], images[key]) for key in reversed(keys))
    assert any(
        not torch.equal(make(unlabelled, pseudo_folder, seed=6)[key]["support_images"], images[key]) for key in keys
    )


def test_the_order_of_the_list_may_differ_from_the_folder_s(unlabelled: ImageList, pseudo_folder: Path) -> None:
    write_list(unlabelled.root / "reversed.txt", reversed(list(zip(unlabelled.images, unlabelled.labels, strict=True))))
    backwards = read_list(unlabelled.root / "reversed.txt", unlabelled.root, need_labels=False)
    PseudoFiles(pseudo_folder).check_manifest({"list_digest": backwards.digest})
    episode = make(backwards, pseudo_folder)[(0, 0)]
    assert backwards.images[episode["query_index"]].endswith(f"photo_{row_of_view(episode['query_image']):02d}.png")


def test_too_many_shots_are_a_user_error(unlabelled: ImageList, pseudo_folder: Path) -> None:
    for options in ({"shots": COUNT}, {"shots": 3, "neighbours": 2}):
        with pytest.raises(UserError, match=r"no region has the .* min_area 200, region_rule span") as caught:
            make(unlabelled, pseudo_folder, **options)
        assert "\n" not in str(caught.value)


def test_images_of_the_folder_that_the_list_lacks_are_named(unlabelled: ImageList, pseudo_folder: Path) -> None:
    write_list(unlabelled.root / "short.txt", list(zip(unlabelled.images, unlabelled.labels, strict=True))[1:])
    shorter = read_list(unlabelled.root / "short.txt", unlabelled.root, need_labels=False)
    with pytest.raises(UserError, match=r"1 of its images are not in .*short\.txt \(the first is photo_00\)"):
        make(shorter, pseudo_folder)
    with pytest.raises(UserError, match="list_digest"):
        PseudoFiles(pseudo_folder).check_manifest({"list_digest": shorter.digest})


def test_a_fitting_manifest_passes_and_only_given_keys_count(pseudo_folder: Path) -> None:
    PseudoFiles(pseudo_folder).check_manifest({"cluster_num": 30, "superpixel": {"scale": 100}})


def test_every_value_that_differs_is_named(pseudo_folder: Path) -> None:
    wanted = {
        "recipe": "objects",
        "cluster_num": 50,
        "min_area": 200,
        "superpixel": {"sigma": 0.5},
        "extractor": "moco",
    }
    with pytest.raises(UserError) as caught:
        PseudoFiles(pseudo_folder).check_manifest(wanted)
    message = str(caught.value)
    for part in (
        "recipe is global there, objects expected",
        "cluster_num is 30 there, 50 expected",
        "superpixel.sigma is 0.8 there, 0.5 expected",
        "extractor is absent there, moco expected",
    ):
        assert part in message
    assert "min_area" not in message and "\n" not in message


def test_a_folder_without_manifest_is_not_complete(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no complete set of pseudo masks .* run `bash masks/create\.sh"):
        PseudoFiles(tmp_path).check_manifest({})
