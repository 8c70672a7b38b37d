"""Joint episodes: the share of each part, whose episodes they are, numbers that do not collide."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from episodes.episode import Episode
from episodes.joint import JointEpisodes
from episodes.lists import ImageList
from episodes.pseudo import PseudoEpisodes
from episodes.supervised import SupervisedEpisodes
from tests.episodes.drawn_images import COUNT, TRAIN


@pytest.fixture
def pseudo(unlabelled: ImageList, pseudo_folder: Path) -> PseudoEpisodes:
    return PseudoEpisodes(unlabelled, pseudo_folder, shots=2, seed=5, transform=TRAIN)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_every_stretch_has_the_share(training: SupervisedEpisodes, pseudo: PseudoEpisodes, share: float) -> None:
    joint = JointEpisodes(training, pseudo, pseudo_share=share)
    kinds = [joint.draw((0, index)).class_id < 0 for index in range(200)]
    for start in range(160):
        assert abs(sum(kinds[start : start + 40]) - 40 * share) <= 1


def test_episodes_are_those_of_the_parts_in_their_order(training: SupervisedEpisodes, pseudo: PseudoEpisodes) -> None:
    joint = JointEpisodes(training, pseudo, pseudo_share=0.25)
    assert len(joint) == len(training) + len(pseudo)
    for epoch in (0, 3):
        episodes = [joint[epoch, index] for index in range(16)]
        labelled = [episode for episode in episodes if episode["class_id"] > 0]
        regions = [episode for episode in episodes if episode["class_id"] < 0]
        assert len(labelled) == 12 and len(regions) == 4
        for index, episode in enumerate(labelled):
            assert _same(episode, training[epoch, index])
        for index, episode in enumerate(regions):
            expected = pseudo[epoch, index]
            expected["class_id"], expected["query_index"] = -1 - expected["class_id"], COUNT + expected["query_index"]
            assert _same(episode, expected)


def test_objects_are_numbered_through(training: SupervisedEpisodes, pseudo: PseudoEpisodes) -> None:
    joint = JointEpisodes(training, pseudo, pseudo_share=0.5)
    examples = [joint.example(number) for number in range(joint.objects)]
    own = [part.example(number) for part in (training, pseudo) for number in range(part.objects)]
    assert examples == own


def _same(first: Episode, second: Episode) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name]  # type: ignore[literal-required]
        for name, value in first.items()
    )
