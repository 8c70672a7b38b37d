"""Drawn shapes with pseudo masks and a small network, for the tests of training and testing as users type them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

import test as test_command
import train as train_command
from masks import create
from model import load_model
from prepare.__main__ import main as prepare
from util.errors import run_command

SIZE = 65


class Workspace:
    """A folder with drawn shapes, weights of a narrow backbone and pseudo masks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        prepare(
            ["shapes", "--root", str(root / "shapes"), "--lists", str(root / "lists"), "--train", "80", "--val", "90",
             "--size", "80", "--workers", "1"]
        )  # fmt: skip
        self.weights = root / "backbone.safetensors"
        torch.manual_seed(0)
        save_file(timm.create_model("mobilenetv2_035").state_dict(), self.weights)
        create.main([str(root), "shapes", *self.mask_overrides])

    @property
    def mask_overrides(self) -> list[str]:
        return [
            "experiment=ssl_demo", "extractor=timm:mobilenetv2_035", f"weights={self.weights}", "TRAIN.workers=0",
            f"list={self.root}/lists/train.txt", "DATA.min_area=200", "Cluster.assign_size=64",
        ]  # fmt: skip

    def overrides(self, run: str, *more: str) -> list[str]:
        """``key=value`` arguments for a small network that keeps its run in ``root/run``."""
        return [
            f"DATA.data_root={self.root}/shapes", f"DATA.train_list={self.root}/lists/train.txt",
            f"DATA.val_list={self.root}/lists/val.txt", "DATA.min_area=200", "Cluster.extractor=timm:mobilenetv2_035",
            f"Cluster.extractor_weights={self.weights}", "Cluster.assign_size=64", "TRAIN.backbone=mobilenetv2_035",
            f"TRAIN.backbone_weights={self.weights}", f"TRAIN.train_h={SIZE}", f"TRAIN.train_w={SIZE}",
            f"TRAIN.val_size={SIZE}", "TRAIN.hidden_dims=16", "TRAIN.batch_size=2", "TRAIN.epoch_episodes=4",
            "TRAIN.epochs=2", "TRAIN.workers=0", "TRAIN.episodes=10", "VIS.pictures=2",
            f"TRAIN.save_path={self.root}/{run}", *more,
        ]  # fmt: skip

    def train(self, run: str, *more: str, experiment: str = "ssl_demo") -> dict[str, torch.Tensor]:
        """The weights after training."""
        train_command.main(["shapes", experiment, *self.overrides(run, *more)])
        return load_model(self.root / run / "latest.pth").state_dict()

    def test(self, run: str, *more: str, experiment: str = "split0_demo") -> dict[str, object]:
        """The results of a test."""
        test_command.main(["shapes", experiment, *self.overrides(run), *more])
        results: dict[str, object] = json.loads((self.root / run / "results.json").read_text())
        return results


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must end with exit code 2 and one line on stderr; returns the line."""

    def run(main: Callable[[list[str]], None], arguments: list[str]) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run_command(main, arguments)
        assert stop.value.code == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        return errors[0]

    return run


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
