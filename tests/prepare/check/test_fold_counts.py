"""Folds: the same counts as a naive loop, the same queries as the episodes, classes that are too rare."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from episodes.build import evaluation, training_episodes, training_images
from episodes.folds import fold_classes
from episodes.lists import write_list
from tests.prepare.small_dataset import CLASSES, COUNTS, MIN_AREA, Outcome, names, overrides, set_value
from util.config import load_config
from util.images import read_label


def naive_images(data: Path, split: str, number: int, min_area: int) -> int:
    labels = [read_label(data / names(split, row)[1]) for row in range(COUNTS[split])]
    return sum(sum(1 for value in label.ravel().tolist() if value == number) >= min_area for label in labels)


def test_a_healthy_dataset_is_counted_exactly(data: Path, check: Callable[..., Outcome]) -> None:
    outcome = check()
    assert (outcome.code, outcome.lines[-1], outcome.errors, outcome.warnings) == (0, "SHAPES: ready", [], [])
    assert f"{data / 'train.txt'}: 24 images" in outcome.lines
    assert outcome.rows() == {
        number: tuple(naive_images(data, split, number, area) for split in COUNTS for area in (1, MIN_AREA))
        for number in range(1, CLASSES + 1)
    }
    # Each class in a quarter of the images, and over all classes joint training and the tests of networks without fold.
    assert outcome.queries() == [(18, 7)] * 4 + [(24, 28)]


@pytest.mark.parametrize("setting", ["DATA.drop_novel_images=false", "DATA.drop_novel_images=true"])
def test_queries_are_those_of_the_episodes(data: Path, check: Callable[..., Outcome], setting: str) -> None:
    queries = check(setting).queries()
    for row, experiment in enumerate([*(f"split{split}_demo" for split in range(4)), "joint_demo"]):
        words = overrides(data, setting, "TRAIN.pseudo_share=0")  # there are no pseudo masks
        config = load_config("shapes", experiment, words)
        assert queries[row] == (
            len(training_episodes(config, training_images(config))),
            len(evaluation(config).episodes),
        )
    assert ("true" in setting) == (queries[0] != (18, 7))


def test_one_experiment_has_a_table_of_its_classes(data: Path, check: Callable[..., Outcome]) -> None:
    outcome = check(experiment="split1_demo")
    assert list(outcome.rows()) == [2, 1, 3, 4]
    assert len(re.findall(r"\(trained on\)$", outcome.text, re.MULTILINE)) == 3
    assert outcome.queries() == [(18, 7)]


def test_rare_classes(data: Path, check: Callable[..., Outcome]) -> None:
    """Class 4 in one training image, class 3 in five: the folds that train on them are named."""
    dropped = {names("train", row) for row in (7, 11, 15, 19, 23, 22)}
    write_list(data / "train.txt", [pair for row in range(24) if (pair := names("train", row)) not in dropped])
    outcome = check()
    start = f"{data / 'train.txt'}: class"
    advice = "use a longer list or a smaller DATA.min_area"
    assert outcome.errors == [
        f"{start} 4 has 1 image with 225 pixels of it, episodes of 1 shot need 2 (training of fold 0, fold 1, fold 2, "
        f"all folds); {advice}"
    ]
    assert outcome.warnings == [
        f"{start} 3 has 5 images with 225 pixels of it, episodes of 5 shots need 6 (training of fold 0, fold 1, "
        f"fold 3, all folds); {advice}"
    ]
    # Fold 3 does not train on class 4, nor does unsupervised training read labels.
    assert check(experiment="split3_demo").code == check(experiment="ssl_demo").code == 0
    # Experiments with five shots need them.
    assert len(check("TRAIN.shot=5").errors) == 2
    # A training goes on without it: the others have the same images.
    config = load_config("shapes", "split0_demo", overrides(data))
    assert len(training_episodes(config, training_images(config))) > 0


def test_a_class_that_is_never_tested_is_a_problem_of_its_fold(data: Path, check: Callable[..., Outcome]) -> None:
    write_list(data / "val.txt", [names("val", row) for row in range(28) if row % CLASSES != 1])
    outcome = check()
    assert re.fullmatch(
        r".*val\.txt: class 2 has 0 images with 225 pixels .* \(tests of fold 1, all folds\); .*", outcome.errors[0]
    )
    assert len(outcome.errors) == 1
    assert check(experiment="split0_demo").code == 0


def test_too_few_classes_for_a_fold(data: Path, check: Callable[..., Outcome]) -> None:
    message = "TRAIN.split=0: 1 classes are too few for this fold; use split 5"
    assert message in check("DATA.classes=1", experiment="split0_demo").errors
    outcome = check("DATA.classes=1")
    assert message in outcome.warnings and message not in outcome.errors


def test_classes_are_the_datasets(data: Path, check: Callable[..., Outcome]) -> None:
    """COCO has eighty whatever DATA.classes says, and every fourth is held back."""
    set_value(data, 80)
    outcome = check(dataset="coco", experiment="split1_mobilenetv2")
    assert list(outcome.rows())[:20] == fold_classes("coco", 1)[1] and len(outcome.rows()) == 80
    assert not any("expected 0 to" in error for error in outcome.errors)
    set_value(data, 81)
    errors = check(dataset="coco", experiment="split1_mobilenetv2").errors
    assert any("20 pixels of value 81; expected 0 to 80 and 255" in error for error in errors)
