"""A test of every photograph, against each of its steps done by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from commands.folder_test import score_every_photograph
from engine.evaluate import evaluate
from engine.metrics import EpisodeScore
from episodes.build import Evaluation
from episodes.every_photograph import EveryPhotograph
from episodes.further_supports import as_support
from episodes.lists import read_list, write_list
from episodes.loaders import make_loader
from episodes.transforms import ValTransform
from model import FSSModel
from model.baselines import Baseline
from model.frozen.backbone import build_backbone
from model.presence import FolderPresence, describe_objects, describe_queries, presence_in_folder
from tests.model.networks import tiny_model
from util.images import write_image, write_label

COLOURS = {1: (230, 60, 40), 2: (30, 60, 230)}
PHOTOGRAPHS = 16


def photograph(row: int) -> tuple[np.ndarray, np.ndarray]:
    """A green image (90, 120, 3), in two thirds with an object of class 1 or 2, another size each; and its label."""
    image, label = np.full((90, 120, 3), (40, 90 + row, 40), dtype=np.uint8), np.zeros((90, 120), dtype=np.uint8)
    if row % 3:
        part = np.s_[20 : 50 + row, 5 * row : 5 * row + 40]
        image[part], label[part] = COLOURS[row % 3], row % 3
    return image, label


@pytest.fixture
def episodes(tmp_path: Path) -> EveryPhotograph:
    pairs = [(f"images/{row:02d}.png", f"labels/{row:02d}.png") for row in range(PHOTOGRAPHS)]
    for row, (image, label) in enumerate(pairs):
        pixels, classes = photograph(row)
        write_image(tmp_path / image, pixels)
        write_label(tmp_path / label, classes)
    write_list(tmp_path / "list.txt", pairs)
    images = read_list(tmp_path / "list.txt", tmp_path, need_labels=True)
    return EveryPhotograph(images, (1, 2), shots=2, seed=3, transform=ValTransform(size=129), min_area=300)


def evaluation(episodes: EveryPhotograph) -> Evaluation[EveryPhotograph]:
    batches = make_loader(episodes, epoch=0, episodes=len(episodes), batch_size=3, workers=0, drop_last=False)
    return Evaluation(episodes, batches, total=len(episodes), content_size=None, slot=int, batch_size=3)


def options() -> dict[str, Any]:
    return {"device": torch.device("cpu"), "content_size": None, "slot": int, "query_name": str, "refine": None}


def with_classifier() -> FSSModel:
    """A network that takes some photograph to hold each class."""
    torch.manual_seed(0)
    backbone = build_backbone("mobilenetv2_035", weights=None, normalize="imagenet", mid_stages=[-2], class_scores=True)
    model = FSSModel(backbone, channels=16, contrast_residual=True).eval()
    model.presence_calibration = torch.tensor([1.0, 10.0])
    return model


def test_the_surest_photographs_are_supports_where_a_class_is_taken_to_be(
    episodes: EveryPhotograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("episodes.further_supports._FEWEST_IMAGES", PHOTOGRAPHS)
    model, test = with_classifier(), evaluation(episodes)
    first = evaluate(model, test.batches.numbered(), **options()).scores
    supports = [
        [episode["support_images"][None], episode["support_masks"][None], episode["support_padding"][None]]
        for episode in episodes.of_each_class([(), ()])
    ]
    queries = [
        describe_queries(model.backbone, each["query_image"][None], each["query_padding"][None])[0]
        for each in episodes.of_each_query()
    ]

    def presence_by(supports: list[list[Tensor]]) -> FolderPresence:
        objects = torch.cat([describe_objects(model.backbone, *each) for each in supports])
        return presence_in_folder(objects, queries, torch.from_numpy(episodes.asked), model.presence_threshold)

    def kept_by(presence: FolderPresence, position: int) -> list[int]:
        """The queries in which a class is, the surest first."""
        above = presence.similarities[position] - presence.thresholds[position]
        asked = np.flatnonzero(episodes.asked[position]).tolist()
        return sorted((column for column in asked if above[column] > 0), key=lambda column: -float(above[column]))

    def predicted(number: int, supports: list[Tensor]) -> tuple[np.ndarray, EpisodeScore]:
        """An episode alone, with these supports."""
        episode = episodes[0, number]
        batch: Any = {
            **{name: episode[name][None] for name in ("query_image", "query_padding")},
            **dict(zip(("support_images", "support_masks", "support_padding"), supports, strict=True)),
            "original_mask": [episode["original_mask"]],
            "class_id": [episode["class_id"]],
            "query_index": [episode["query_index"]],
        }
        seen: list[np.ndarray] = []
        scores = evaluate(
            model, [(0, batch)], on_prediction=lambda *each: seen.append(each[3].numpy()), **options()
        ).scores
        return seen[0], scores[0]

    joined, presences = supports, [presence_by(supports)]
    for _ in range(3):
        extended, counts = [], []
        for position, of_class in enumerate(episodes.numbers):
            kept = kept_by(presences[-1], position)
            masks = [predicted(int(of_class[column]), joined[position])[0] for column in kept]
            images = [photograph(episodes.queries[column])[0] for column in kept]
            views = [as_support(*each, episodes.transform) for each in zip(images, masks, strict=True)]
            further = [view for view in views if view is not None][:3]
            parts = [torch.stack(part)[None] for part in zip(*further, strict=True)]
            extended.append([torch.cat(pair, dim=1) for pair in zip(supports[position], parts, strict=True)])
            counts.append(len(further))
        joined = extended
        presences.append(presence_by(joined))
    presence = presences[-1]
    assert not torch.equal(presence.similarities, presences[-2].similarities)
    result = score_every_photograph(model, test, options())
    assert result.thresholds == dict(zip((1, 2), presence.thresholds.tolist(), strict=True))
    assert [*result.further.values()] == counts and min(counts) > 0 and result.seconds > 0
    for position, of_class in enumerate(episodes.numbers):
        kept = kept_by(presence, position)
        changed = 0
        for column in np.flatnonzero(episodes.asked[position]).tolist():
            number = int(of_class[column])
            expected = predicted(number, joined[position])[1] if column in kept else first[number]
            changed += expected.areas != first[number].areas
            similarity = float(presence.similarities[position, column])
            assert result.scores[number] == expected._replace(similarity=similarity)
        assert changed


@pytest.mark.parametrize("why", ["small", "untrained", "cannot tell presence"])
def test_there_are_the_supports_that_were_given(
    episodes: EveryPhotograph, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("episodes.further_supports._FEWEST_IMAGES", PHOTOGRAPHS + (why == "small"))
    model: FSSModel | Baseline = tiny_model(contrast_residual=True)
    if why != "cannot tell presence":
        model = with_classifier()
    if why == "untrained":
        model = Baseline("nearest", model.backbone).eval()  # type: ignore[arg-type]
    test = evaluation(episodes)
    expected = evaluate(model, test.batches.numbered(), **options()).scores
    result = score_every_photograph(model, test, options())
    assert [score._replace(similarity=None) for score in result.scores] == expected
    assert result.further == {1: 0, 2: 0}
    assert ({*result.thresholds.values()} == {-np.inf}) == (why == "cannot tell presence")
