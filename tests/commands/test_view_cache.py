"""Training on fixed views as users type it: what is stored where, within which space, and who takes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import train as train_command
from commands import meta_training
from episodes.episode import Batch, collate
from episodes.fixed_views import FixedViews
from episodes.loaders import EpisodeLoader
from episodes.view_store import ViewStore, stored_bytes
from model.frozen.backbone import Backbone
from tests.episodes.viewed_episodes import as_episode
from tests.workspace import Workspace, equal

pytest_plugins = ["tests.workspace"]
WORDS = ("TRAIN.views=2", "VIS.visualize=false")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache's folder of its own; returns where the views are."""
    monkeypatch.setenv("UNSUPFSS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "views"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that are written."""
    rows: list[int] = []
    write = ViewStore.write

    def noted(store: ViewStore, number: int, row: np.void) -> None:
        rows.append(number)
        write(store, number, row)

    monkeypatch.setattr(ViewStore, "write", noted)
    return rows


@pytest.mark.slow
def test_views_are_computed_once_for_all_trainings(workspace: Workspace, cache: Path, written: list[int]) -> None:
    """Another seed takes other episodes of the same views, more views are added, fewer are among them."""
    many = (*WORDS, "TRAIN.epoch_episodes=8")
    first = workspace.train("views_first", *many)
    rows, size = set(written), stored_bytes(cache)
    assert len(written) == len(rows) > 16
    assert equal(first, workspace.train("views_again", *many))
    assert len(written) == len(rows) and stored_bytes(cache) == size
    workspace.train("views_seed", *many, "TRAIN.manual_seed=5")
    workspace.train("views_three", *many, "TRAIN.views=3")
    workspace.train("views_one", *many, "TRAIN.views=1")
    assert len(written) == len(set(written)) < 3.5 * len(rows) and len(list(cache.iterdir())) == 1


def test_a_training_step_on_stored_features_is_one_on_the_views(
    workspace: Workspace, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights to the last bit where the backbone's features are rounded to half precision."""
    stored = workspace.train("views_stored", *WORDS)

    def rounded(self: Backbone, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mid, high = forward(self, images)
        return mid.half().float(), high.half().float()

    def image_batches(loader: EpisodeLoader, views: FixedViews, *_: object) -> list[Batch]:
        return [collate([as_episode(task, list(map(views.view, task.rows))) for task in tasks]) for tasks in loader]

    forward = Backbone.forward
    monkeypatch.setattr(Backbone, "forward", rounded)
    monkeypatch.setattr(meta_training, "FeatureBatches", image_batches)
    assert equal(stored, workspace.train("views_images", *WORDS))


@pytest.mark.slow
def test_another_backbone_or_other_data_have_views_of_their_own(workspace: Workspace, cache: Path) -> None:
    workspace.train("views_a", *WORDS)
    torch.manual_seed(1)
    other = workspace.root / "another_backbone.safetensors"
    save_file(timm.create_model("mobilenetv2_035").state_dict(), other)
    changes = [[f"TRAIN.backbone_weights={other}"], ["TRAIN.mid_stages=[-3]"], ["TRAIN.scale_max=1.2"]]
    for number, words in enumerate(changes, start=2):
        workspace.train(f"views_b{number}", *WORDS, *words)
        assert len(list(cache.iterdir())) == number
    workspace.train("views_labels", *WORDS, experiment="split0_demo")
    workspace.train("views_fold", *WORDS, experiment="split1_demo")
    assert len(list(cache.iterdir())) == len(changes) + 3
    workspace.train("views_c", *WORDS, "TRAIN.base_lr=0.01", f"TRAIN.weight={workspace.root}/views_a/latest.pth")
    assert len(list(cache.iterdir())) == len(changes) + 3


def test_views_that_could_take_too_much_space(
    workspace: Workspace, cache: Path, written: list[int], fails: Callable[..., str]
) -> None:
    """It is refused before anything is computed, and what the line advises works."""
    words = ["TRAIN.epochs=1000", "TRAIN.epoch_episodes=80", "TRAIN.views=40", "TRAIN.views_gb=0.02"]
    message = fails(train_command.main, ["shapes", "ssl_demo", *workspace.overrides("views_space", *words)])
    assert message.startswith(f"error: {cache}: it could come to 0.")
    assert "GB with TRAIN.views=40, at most TRAIN.views_gb=0.02 expected; set TRAIN.views_gb=1 or " in message
    fitting = re.findall(r"or TRAIN\.views=(\d+), or delete the folder", message)
    assert 0 < int(fitting[0]) < 40
    assert not written and not cache.exists() and not (workspace.root / "views_space" / "latest.pth").exists()
    # An episode takes two views at most, whatever their number.
    few = ["TRAIN.epochs=1", "TRAIN.views=40"]
    workspace.train("views_space", *few, "TRAIN.views_gb=0.02")
    row = stored_bytes(cache) / len(written) / 1e9
    assert len(written) == 8
    # 8 are there, and another training can need 8 more.
    overrides = workspace.overrides("views_more", *few, f"TRAIN.views_gb={12 * row:.6f}")
    message = fails(train_command.main, ["shapes", "ssl_demo", *overrides])
    assert "TRAIN.views_gb=1, or delete the folder" in message
    workspace.train("views_more", *few, f"TRAIN.views_gb={20 * row:.6f}")


def test_the_published_protocol_has_none(workspace: Workspace, fails: Callable[..., str]) -> None:
    overrides = workspace.overrides("views_published", *WORDS, "TRAIN.compat=published")
    message = fails(train_command.main, ["shapes", "ssl_demo", *overrides])
    assert message.endswith("TRAIN.views must be 0 with TRAIN.compat=published")
