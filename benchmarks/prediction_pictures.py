"""Typical and worst predictions on one sheet, ``docs/predictions.jpg``, from finished tests of the folds.

    python -m benchmarks.prediction_pictures SHEET.jpg TEST [TEST ...] KEY=VALUE [...]

Each TEST is the folder of a test on a fold of PASCAL VOC (``results.json`` and ``episodes.csv``); the KEY=VALUE words
are those of the tests, with the network as ``TRAIN.weight``, ``--family`` is that of the experiments. A sheet of four
folds takes half a minute on one core.

Of each fold it shows the two episodes nearest to the median IoU on the left and the two of lowest IoU on the right. An
episode is passed over whose class its side of the fold has already, whose query or support is on the sheet already, or
in whose query or supports the labels know a person. The chosen ones are predicted again, and must score as in the test.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from commands.meta_test import build_method, predicted_episodes
from engine.gallery import TITLES, episode_pictures
from engine.metrics import EpisodeScore
from engine.results import read_test
from engine.scores import SCORES
from engine.single_episodes import PredictedEpisode
from episodes.build import evaluation
from episodes.episode import Example
from episodes.supervised import SupervisedEpisodes
from util.config import load_config
from util.errors import UserError, run_command
from util.files import atomic_write
from util.images import read_image, read_label
from util.images.captions import text_bar
from util.images.draw import contact_sheet
from util.logging import start_logging

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("table", "dog", "horse", "motorbike", "person", "plant", "sheep", "sofa", "train", "tv"),
)
_PERSON = 1 + VOC_CLASSES.index("person")
_OF_EACH_KIND = 2
_CELL, _GAP, _HEADING_LETTERS, _JPEG_QUALITY = 200, 24, 20, 85


class Picked(NamedTuple):
    """A row of one side of the sheet."""

    caption: str
    pictures: list[np.ndarray]


def main(arguments: list[str]) -> None:
    """Choose, predict and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("words", nargs="+", metavar="TEST or KEY=VALUE")
    parser.add_argument("--family", default="mobilenetv2", help="of the experiments (%(default)s)")
    parsed = parser.parse_intermixed_args(arguments)
    start_logging()
    settings = [word for word in parsed.words if "=" in word]
    shown: set[Path] = set()
    typical, worst = list[Picked](), list[Picked]()
    for folder in (Path(word) for word in parsed.words if "=" not in word):
        for side, picked in zip((typical, worst), _picked_of_fold(folder, parsed.family, settings, shown), strict=True):
            side += picked
    _write_jpeg(parsed.sheet, _drawn(typical, worst))


def _picked_of_fold(folder: Path, family: str, settings: Sequence[str], shown: set[Path]) -> list[list[Picked]]:
    """The typical and the worst episodes of a test; adds their images to those that are ``shown``."""
    results, scores = read_test(folder)
    split = results.protocol.split
    config = load_config(results.protocol.dataset, f"split{split}_{family}", settings)
    test = evaluation(config)
    chosen = choose(scores, lambda number: examples_of(test.episodes, number), shown)
    if any(len(side) < _OF_EACH_KIND for side in chosen):
        raise UserError(f"{folder}: too few episodes to choose from; test more of them, or of fewer folds")
    model, _ = build_method(config, "network")
    predicted = {
        episode.number: episode
        for episode in predicted_episodes(config, model, test, [number for side in chosen for number in side])
    }
    for number, episode in predicted.items():
        if episode.score != scores[number]:
            raise UserError(
                f"{folder / SCORES}, episode {number}: has another class, query or score than now; give the words of "
                "the test, and its network as TRAIN.weight"
            )

    def picked(episode: PredictedEpisode) -> Picked:
        iou, name = 100 * episode.score.areas.object_iou, VOC_CLASSES[episode.class_id - 1]
        query = read_image(test.episodes.images.image_path(episode.query_index))
        pictures = episode_pictures(episode.batch, episode.place, query, episode.truth, episode.prediction)
        return Picked(f"IoU {iou:.1f} %, {name} (fold {split}, episode {episode.number})", pictures)

    return [[picked(predicted[number]) for number in side] for side in chosen]


def choose(
    scores: Sequence[EpisodeScore], examples: Callable[[int], Collection[Example]], shown: set[Path]
) -> list[list[int]]:
    """Numbers of the episodes next to the median IoU, and of those of lowest IoU, by the rule above (``__doc__``).

    ``examples(number)`` are query and supports of an episode. The images of those chosen are added to ``shown``. Of two
    equal episodes the earlier one in the test comes first; fewer than two are chosen where there are no more.
    """
    ious = [score.areas.object_iou for score in scores]
    median = statistics.median(ious)
    orders = ([abs(iou - median) for iou in ious], ious)
    return [
        _first_allowed(sorted(range(len(ious)), key=order.__getitem__), scores, examples, shown) for order in orders
    ]


def _first_allowed(
    order: Iterable[int],
    scores: Sequence[EpisodeScore],
    examples: Callable[[int], Collection[Example]],
    shown: set[Path],
) -> list[int]:
    chosen = list[int]()
    for number in order:
        if len(chosen) == _OF_EACH_KIND:
            break
        if any(scores[number].slot == scores[other].slot for other in chosen):
            continue
        query_and_supports = examples(number)
        images = {example.image for example in query_and_supports}
        if images & shown or any((read_label(example.label) == _PERSON).any() for example in query_and_supports):
            continue
        shown |= images
        chosen.append(number)
    return chosen


def examples_of(episodes: SupervisedEpisodes, number: int) -> list[Example]:
    """Image and label of the query of a test's episode and of its supports."""
    return [episodes.example(of_object) for of_object in episodes.draw((0, number)).objects]


def _drawn(typical: Sequence[Picked], worst: Sequence[Picked]) -> np.ndarray:
    """Both sides next to each other, RGB uint8 (H, W, 3)."""
    pairs = list(zip(typical, worst, strict=True))
    sheet = contact_sheet(
        [[*left.pictures, *right.pictures] for left, right in pairs],
        2 * TITLES,
        _CELL,
        [[left.caption, right.caption] for left, right in pairs],
    )
    width = len(TITLES) * _CELL
    left, right = (
        np.vstack([text_bar([heading], width, _HEADING_LETTERS), half])
        for heading, half in (
            ("Typical: nearest to the median IoU of the fold", sheet[:, :width]),
            ("Worst: lowest IoU of the fold", sheet[:, width:]),
        )
    )
    return np.hstack([left, np.full((len(left), _GAP, 3), 255, dtype=np.uint8), right])


def _write_jpeg(path: Path, sheet: np.ndarray) -> None:
    """With less quality than ``write_image`` has, for a page."""
    with atomic_write(path) as temporary:
        Image.fromarray(sheet).save(temporary, format="JPEG", quality=_JPEG_QUALITY, optimize=True)


if __name__ == "__main__":
    run_command(main)
