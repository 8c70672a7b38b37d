"""Sheets of the steps to a prediction: which pictures they have, and that their maps lie on the query."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from engine import inspection_sheet as sheets
from engine.inspection_sheet import inspection_sheet
from engine.single_episodes import PredictedEpisode, predict_episode
from model.baselines import Baseline
from tests.engine.padded_batch import SIZE, batch_of
from tests.model.networks import tiny_backbone, tiny_model

COMMON = ["query", "truth"]
STEPS = ["nearest contrast", "prior", "attention to object, layer 1", "attention to object, layer 2"]


def predicted(model: torch.nn.Module, batch: dict[str, Any]) -> PredictedEpisode:
    return predict_episode(
        model, 11, (10, batch), device=torch.device("cpu"), content_size=SIZE, refine=None, slot=int, query_name=str
    )  # fmt: skip


def panels(monkeypatch: pytest.MonkeyPatch, episode: PredictedEpisode, *, refined: bool) -> dict[str, np.ndarray]:
    """The pictures of the sheet by their titles."""
    drawn: dict[str, np.ndarray] = {}

    def noted(pictures: list[np.ndarray], lines: list[tuple[str, str]], columns: int, side: int) -> np.ndarray:
        drawn.update(zip([title for title, _ in lines], pictures, strict=True))
        return np.zeros((1, 100, 3), dtype=np.uint8)

    monkeypatch.setattr(sheets, "captioned_sheet", noted)
    query = np.zeros((60, 45, 3), dtype=np.uint8)
    inspection_sheet(episode, query, "caption", content_size=SIZE, refined=refined)
    return drawn


def test_a_network_shows_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    episode = predicted(tiny_model(contrast_residual=True), batch_of(shots=2))
    assert (episode.class_id, episode.query_index, episode.score.query) == (4, 9, "9")
    drawn = panels(monkeypatch, episode, refined=True)
    supports = ["support 1", "its prototypes", "support 2"]  # both have prototypes
    steps = [title.split(",")[0] if "correction" in title else title for title in drawn]
    assert steps == [
        *supports, *COMMON, *STEPS, "learnt correction", "probability", "refined probability", "prediction"
    ]  # fmt: skip
    assert "learnt correction, trusted 2 %" in drawn  # nothing is learnt yet, and so agrees with nothing
    on_query = [title for title in drawn if not title.startswith(("support", "its"))]
    assert all(drawn[title].shape == (60, 45, 3) for title in on_query)


def test_a_method_without_training_shows_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = panels(monkeypatch, predicted(Baseline("nearest", tiny_backbone()), batch_of()), refined=False)
    assert [*drawn] == ["support", *COMMON, "contrast", "probability", "prediction"]


def test_padding_is_cut_off_and_prototypes_of_the_object_are_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of()
    batch["support_masks"][1, 0, 10:50, 8:40] = 1
    drawn = panels(monkeypatch, predicted(tiny_model(), batch), refined=False)
    width = SIZE(60, 45)[1]
    assert drawn["support"].shape == drawn["its prototypes"].shape == (65, width, 3)
    red, _, blue = drawn["its prototypes"].astype(int).transpose(2, 0, 1)
    # Away from the border of the object by more than a feature, of eight pixels.
    objects = batch["support_masks"][1, 0].numpy()[:, :width] == 1
    near = np.pad(objects, 8, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(near, (17, 17))
    inside, outside = windows.all(axis=(2, 3)), ~windows.any(axis=(2, 3))
    assert (red > blue)[inside].all() and (blue > red)[outside].all() and inside.any() and outside.any()


def test_the_sheet_is_one_picture() -> None:
    episode = predicted(tiny_model(), batch_of())
    query = np.zeros((60, 45, 3), dtype=np.uint8)
    sheet = inspection_sheet(episode, query, "caption", content_size=SIZE, refined=False)
    assert sheet.dtype == np.uint8 and sheet.shape[1:] == (4 * 244, 3)
