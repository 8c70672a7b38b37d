"""How much a run has to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands.experiments.runs import all_runs
from commands.experiments.work import Work, count_images, work_of_masks, work_of_test, work_of_training
from tests.commands.experiments.small_study import study
from util.config import load_config


def test_a_training_has_whole_batches_of_every_epoch() -> None:
    config = load_config("pascal", "ssl_resnet50")
    assert work_of_training(config, 10) == Work(training=200 * 8)
    assert work_of_training(config, None) == Work(training=None)
    fixed = load_config("pascal", "ssl_mobilenetv2")
    assert work_of_training(fixed, None) == Work(training=4 * 400)


def test_a_validation_after_every_epoch_is_a_test() -> None:
    config = load_config("pascal", "split0_resnet50")
    assert work_of_training(config, 4) == Work(training=100 * 4, tests=100 * 1000)
    assert work_of_test(config, 5) == Work(tests=3000)
    assert work_of_test(load_config("coco", "split0_resnet50"), 1) == Work(tests=5000)
    assert work_of_test(load_config("coco", "split0_resnet50", ["TRAIN.episodes=7"]), 1) == Work(tests=7)


def test_images_are_counted_where_the_list_is_there(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("# a comment\na.jpg a.png\nb.jpg b.png\n\na.jpg a.png\n")
    assert count_images(tmp_path / "train.txt", "pascal") == 2
    assert count_images(tmp_path / "none" / "train.txt", "pascal") == 5953
    assert count_images(tmp_path / "none" / "other.txt", "pascal") is None
    assert work_of_masks(load_config("shapes", "ssl_demo", [f"DATA.train_list={tmp_path}/train.txt"])) == Work(masks=2)


@pytest.mark.parametrize(("percent", "images"), [(5, 297), (20, 1190), (100, 5953)])
def test_a_list_that_is_still_to_be_drawn(tmp_path: Path, percent: int, images: int) -> None:
    asked = study(tmp_path, f"DATA.train_list={tmp_path}/train.txt", "TRAIN.evaluate=false")
    runs = {run.name: run for run in all_runs(asked)}
    assert runs[f"tuned_{percent}/fold0/seed_123"].work == Work(training=100 * (images // 4) * 4)
