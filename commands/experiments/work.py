"""How much a run has to do, in episodes and images, as far as that is known before it runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from episodes.lists import ListLine, scan_list
from episodes.protocols import protocol
from util.config import Config


class Work(NamedTuple):
    """Episodes of training, of tests, and pseudo masks; None where that is not known.

    A test episode of K shots counts as (1 + K) / 2 of one shot: its time is that of its images.
    """

    training: float | None = 0
    tests: float | None = 0
    masks: float | None = 0


def work_of_masks(config: Config) -> Work:
    """Of the pseudo masks for an experiment."""
    return Work(masks=count_images(config.DATA.train_list, config.dataset))


def work_of_training(config: Config, images: int | None) -> Work:
    """Of a training on a list of ``images``, at most: those without an object that counts are no episode."""
    train = config.TRAIN
    episodes = train.epoch_episodes or images
    validations = -(-train.epochs // train.evaluate_every) if train.evaluate else 0  # the last epoch has one
    tests = validations * _test_episodes(config, train.shot)
    steps = None if episodes is None else train.epochs * (episodes // train.batch_size)
    return Work(training=None if steps is None else steps * train.batch_size, tests=tests)


def work_of_test(config: Config, shots: int) -> Work:
    """Of one test."""
    return Work(tests=_test_episodes(config, shots))


@cache
def count_images(train_list: Path, dataset: str) -> int | None:
    """The images of a list; of a benchmark's whose list is not there yet, those that it should have."""
    if train_list.is_file():
        lines = [line for line in scan_list(train_list, train_list.parent) if isinstance(line, ListLine)]
        return sum(line.repeats is None for line in lines)
    benchmark = protocol(dataset).benchmarks.get(train_list.stem)
    return benchmark.images if benchmark is not None else None


def _test_episodes(config: Config, shots: int) -> float:
    episodes = config.TRAIN.episodes or protocol(config.dataset).test_episodes
    return episodes * (1 + shots) / 2
