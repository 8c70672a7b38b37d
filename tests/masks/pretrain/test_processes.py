"""MoCo-v2 pretraining in processes of its own: torchrun and kill -9."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file as load

import masks.pretrain.__main__
import masks.pretrain.training
from masks.pretrain.training import pretrain
from masks.pretrain.unlabelled_images import find_images
from tests.masks.pretrain.pretraining import TINY, build_without_batch_norm, draw_images, same, start
from util.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("processes") / "images")


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """What two processes make without a break, and next to it what they make of a network without batch norm."""
    out = folder.parent / "whole.safetensors"
    log = out.with_name("log")
    command_line: list[str | Path] = [folder, out, "--without_batch_norm", out.with_name("plain.safetensors")]
    assert start(command_line, log, processes=2) == 0, log.read_text()
    return out


def test_two_processes_end_with_the_same_network(whole: Path) -> None:
    first, second = (Path(f"{whole}.{rank}").read_text() for rank in (0, 1))
    assert first == second
    with safetensors.safe_open(whole, framework="pt") as stream:
        assert '"processes": 2' in stream.metadata()["record"]


def test_two_processes_equal_one_without_batch_norm(
    folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then their gradients are averages and their keys in order: nothing else tells the halves of a batch apart."""
    monkeypatch.setattr(masks.pretrain.training, "_build", build_without_batch_norm)
    pretrain(find_images(folder, None), tmp_path / "one.safetensors", TINY, workers=0)
    start_weights = build_without_batch_norm(TINY, images=9).query_encoder.backbone.state_dict()
    one, two = load(tmp_path / "one.safetensors"), load(whole.with_name("plain.safetensors"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(value, start_weights[name], rtol=1e-4, atol=1e-6)


def test_killed_torchrun_continues_to_the_same_weights(folder: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.safetensors"
    log = tmp_path / "log"
    # torchrun names the process whose end it sees first: that may be the other one, which loses its partner.
    assert start([folder, out, "--kill", "1"], log, processes=2) != 0
    assert log.read_text().count("killed before its last step") == 1
    assert out.with_suffix(".partial.pth").exists() and not out.exists()
    message = r"weights\.partial\.pth: made with other settings \(processes is 2 there, 1 expected\); delete it or give"
    with pytest.raises(UserError, match=message):
        pretrain(find_images(folder, None), out, TINY, workers=0)
    assert start([folder, out], log, processes=2) == 0, log.read_text()
    assert log.read_text().count("continuing after epoch 1 of 2") == 1
    assert same(load(out), load(whole))


def test_killed_process_continues_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    pretrain(find_images(folder, None), tmp_path / "whole.safetensors", TINY, workers=0)
    out = tmp_path / "weights.safetensors"
    assert start([folder, out, "--kill", "0"], tmp_path / "log") == -signal.SIGKILL
    assert out.with_suffix(".partial.pth").exists() and not out.exists()
    pretrain(find_images(folder, None), out, TINY, workers=0)
    assert same(load(out), load(tmp_path / "whole.safetensors"))
