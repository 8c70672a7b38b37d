"""What may continue a run, what a folder holds, and what is refused before the first step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from engine.run_folder import BEST, LATEST, check_run_folder, describe_run, interrupted_run
from engine.trainer import Trainer
from tests.engine.small_training import DIGESTS, small_config, small_trainer
from util.errors import UserError

# What the message names, and the words that make another run of it.
OTHER_RUNS = {
    "TRAIN.manual_seed is 123 there, 5 expected": ["TRAIN.manual_seed=5"],
    "TRAIN.base_lr is 0.002 there, 0.5 expected": ["TRAIN.base_lr=0.5"],
    "TRAIN.epochs is 1 there, 2 expected": ["TRAIN.epochs=2"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A run of one epoch, finished."""
    trainer = small_trainer(tmp_path_factory.mktemp("run"), "TRAIN.epochs=1", pictures=False)
    trainer.run()
    return trainer


@pytest.mark.parametrize("message", OTHER_RUNS)
def test_another_run_does_not_continue_a_checkpoint(run: Trainer, tmp_path: Path, message: str) -> None:
    words = ["TRAIN.epochs=1", *OTHER_RUNS[message]]
    with pytest.raises(UserError, match=re.escape(f"{run.config.run_folder} holds another run ({message})")):
        interrupted_run(small_config(run.config.run_folder, *words), DIGESTS)
    latest = run.config.run_folder / LATEST
    resumed = small_config(tmp_path, *words, f"TRAIN.resume={latest}")
    with pytest.raises(UserError, match=re.escape(f"TRAIN.resume={latest} is of another run ({message})")):
        interrupted_run(resumed, DIGESTS)


def test_the_same_run_continues_whatever_does_not_decide(run: Trainer, tmp_path: Path) -> None:
    folder = run.config.run_folder
    words = ["TRAIN.epochs=1", "TRAIN.workers=1", "TRAIN.val_size=65", f"DATA.data_root={tmp_path}"]
    for config in (small_config(folder, *words), small_config(tmp_path, *words, f"TRAIN.resume={folder / LATEST}")):
        checkpoint = interrupted_run(config, DIGESTS)
        assert checkpoint is not None and checkpoint["epoch"] == 1


def test_other_data_under_the_same_names_are_another_run(run: Trainer, tmp_path: Path) -> None:
    message = "training_data.pseudo_masks is 0123456789ab there, ffff expected"
    with pytest.raises(UserError, match=re.escape(message)):
        interrupted_run(run.config, {"pseudo_masks": "ffff"})
    # Checkpoints of before, which hold no digests, are continued.
    checkpoint = torch.load(run.config.run_folder / LATEST, weights_only=True)
    del checkpoint["training_data"]
    torch.save(checkpoint, tmp_path / LATEST)
    assert interrupted_run(small_config(tmp_path, "TRAIN.epochs=1"), {"pseudo_masks": "ffff"}) is not None


def test_a_folder_without_a_checkpoint_is_free(tmp_path: Path) -> None:
    describe_run(small_config(tmp_path, "TRAIN.base_lr=0.5"), copies={})
    (tmp_path / "epochs.jsonl").write_text('{"epoch": 1}\n')
    config = small_config(tmp_path)
    assert interrupted_run(config, DIGESTS) is None
    describe_run(config, copies={})
    assert "base_lr: 0.002" in (tmp_path / "config.yaml").read_text()


def test_the_checkpoints_of_another_run_are_not_replaced(run: Trainer, tmp_path: Path) -> None:
    """The best one alone neither, nor when the run goes on from a checkpoint elsewhere."""
    latest = run.config.run_folder / LATEST
    (tmp_path / BEST).write_bytes(latest.read_bytes())
    for words in (["TRAIN.base_lr=0.5"], ["TRAIN.base_lr=0.5", f"TRAIN.resume={latest}"]):
        with pytest.raises(UserError, match=re.escape(f"{tmp_path} holds another run (TRAIN.base_lr")):
            interrupted_run(small_config(tmp_path, "TRAIN.epochs=1", *words), DIGESTS)
    assert interrupted_run(small_config(tmp_path, "TRAIN.epochs=1"), DIGESTS) is None


@pytest.mark.parametrize("name", ["config.yaml", "log.txt", "epochs.jsonl", LATEST, BEST])
def test_a_folder_in_the_place_of_a_file(tmp_path: Path, name: str) -> None:
    check_run_folder(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / name}: a folder, a file is written here")):
        check_run_folder(tmp_path)
