"""What may continue a run, what a folder holds, and what is refused before the first step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from engine.run_folder import (
    BEST,
    DAMAGED,
    LATEST,
    PREVIOUS,
    check_run_folder,
    describe_run,
    interrupted_run,
    save_latest,
)
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


def test_a_key_that_came_later_had_its_default(run: Trainer, tmp_path: Path) -> None:
    checkpoint = torch.load(run.config.run_folder / LATEST, weights_only=True)
    del checkpoint["config"]["TRAIN"]["views"]
    torch.save(checkpoint, tmp_path / LATEST)
    assert interrupted_run(small_config(tmp_path, "TRAIN.epochs=1"), DIGESTS) is not None
    with pytest.raises(UserError, match=r"\(TRAIN\.views is 0 there, 2 expected\)"):
        interrupted_run(small_config(tmp_path, "TRAIN.epochs=1", "TRAIN.views=2"), DIGESTS)


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


@pytest.fixture
def two_checkpoints(run: Trainer, tmp_path: Path) -> Path:
    """A folder with a checkpoint and the one before, which are told by their best mIoU."""
    checkpoint = torch.load(run.config.run_folder / LATEST, weights_only=True)
    for best in (0.1, 0.2, 0.3):
        save_latest(tmp_path, {**checkpoint, "best_miou": best})
    return tmp_path


def best_miou(folder: Path, *words: str) -> float | None:
    checkpoint = interrupted_run(small_config(folder, "TRAIN.epochs=1", *words), DIGESTS)
    return None if checkpoint is None else checkpoint["best_miou"]


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_checkpoints_are_kept(two_checkpoints: Path) -> None:
    assert files(two_checkpoints) == [LATEST, PREVIOUS]
    assert best_miou(two_checkpoints) == 0.3
    (two_checkpoints / PREVIOUS).replace(two_checkpoints / LATEST)
    assert best_miou(two_checkpoints) == 0.2


def test_a_file_system_without_hard_links(two_checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    save_latest(two_checkpoints, {"version": 1})
    assert best_miou_of(two_checkpoints / PREVIOUS) == 0.3
    assert files(two_checkpoints) == [LATEST, PREVIOUS]


def best_miou_of(path: Path) -> float:
    best: float = torch.load(path, weights_only=True)["best_miou"]
    return best


def test_a_kill_while_saving_leaves_a_latest(two_checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.run_folder.write_torch_file", die)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            save_latest(two_checkpoints, {"version": 1})
        assert files(two_checkpoints) == [LATEST, PREVIOUS]
        assert best_miou(two_checkpoints) == 0.3


def test_a_damaged_checkpoint_gives_way_to_the_one_before(two_checkpoints: Path, messages: list[str]) -> None:
    """It is kept aside, and the next checkpoint does not replace the sound one by it."""
    damage(two_checkpoints / LATEST)
    with pytest.raises(UserError, match="another run"):
        best_miou(two_checkpoints, "TRAIN.base_lr=0.5")
    assert files(two_checkpoints) == [LATEST, PREVIOUS]
    assert best_miou(two_checkpoints) == 0.2
    (message,) = messages
    assert message.startswith(f"{two_checkpoints / LATEST}: not a readable weight file (")
    assert message.endswith("; continuing from the checkpoint before it")
    assert files(two_checkpoints) == [DAMAGED, LATEST]
    assert best_miou(two_checkpoints) == 0.2
    assert len(messages) == 1


def test_a_latest_that_is_missing(two_checkpoints: Path, messages: list[str]) -> None:
    (two_checkpoints / LATEST).unlink()
    assert best_miou(two_checkpoints) == 0.2
    assert messages == [f"{two_checkpoints / LATEST}: missing; continuing from the checkpoint before it"]
    assert files(two_checkpoints) == [LATEST]


def test_two_damaged_checkpoints_are_named_in_one_line(two_checkpoints: Path) -> None:
    for name in (LATEST, PREVIOUS):
        damage(two_checkpoints / name)
    first, second = (rf"{re.escape(str(two_checkpoints / name))}: not a readable[^\n]*" for name in (LATEST, PREVIOUS))
    with pytest.raises(UserError, match=rf"^{first}; {second}; delete what is damaged to start from the beginning$"):
        best_miou(two_checkpoints)
    for name in (LATEST, PREVIOUS):
        (two_checkpoints / name).unlink()
    assert best_miou(two_checkpoints) is None


@pytest.mark.parametrize("name", ["config.yaml", "log.txt", "epochs.jsonl", LATEST, PREVIOUS, DAMAGED, BEST])
def test_a_folder_in_the_place_of_a_file(tmp_path: Path, name: str) -> None:
    check_run_folder(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / name}: a folder, a file is written here")):
        check_run_folder(tmp_path)
