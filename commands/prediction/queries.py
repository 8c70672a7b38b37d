"""Prediction of many queries: each is read, predicted and written; what cannot be read stops no other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from engine.prediction_files import PredictionFolder
from engine.predictions import Area, Prediction
from util.errors import UnfinishedError, UserError, first_of
from util.images import read_image
from util.logging import logger

Presence: TypeAlias = "dict[str, float | None]"


def presence_of_all(
    presence_in: Callable[[Iterable[np.ndarray]], list[Presence]], queries: Collection[Path]
) -> dict[Path, Presence]:
    """For each query that can be read the probability that it shows a class, judged by all of them together.

    ``presence_in`` takes images RGB uint8 (H, W, 3).
    """
    readable: list[Path] = []

    def images() -> Iterator[np.ndarray]:
        for path in tqdm(queries, unit="image", desc="look for what is there", disable=None):
            with suppress(UserError):  # said when it is to be predicted
                image = _read(path)
                readable.append(path)
                yield image

    found = presence_in(images())
    return dict(zip(readable, found, strict=True))


def extend(
    extend_by: Callable[[Sequence[Path], Sequence[Presence]], dict[str, list[int]]], presence: Mapping[Path, Presence]
) -> None:
    """Take the surest queries as further supports (``Segmenter.extend``), and say which."""
    queries = [*presence]
    for name, taken in extend_by(queries, [*presence.values()]).items():
        for row in taken:
            logger.info("%s: among the surest to show %s, a further support as it is predicted", queries[row], name)


def predict_all(
    predict: Callable[[np.ndarray, Presence | None], Prediction],
    names: Mapping[Path, str],
    output: PredictionFolder,
    presence: Mapping[Path, Presence],
) -> None:
    """Predict every query that can be read and its prediction written.

    ``predict`` takes RGB uint8 (H, W, 3) and what ``presence`` says of the query. Raises ``UnfinishedError`` at the end
    where there were others, after a list.
    """
    problems = []
    with (
        logging_redirect_tqdm([logger]),
        output.recording(),
        tqdm(names.items(), unit="image", desc="predict", disable=None) as rows,
    ):
        for path, name in rows:
            try:
                prediction = predict(_read(path), presence.get(path))
                output.write(path, name, prediction)
            except UserError as error:
                logger.warning("WARNING: %s", error)
                problems.append(str(error))
            else:
                described = [_in_words(each, area) for each, area in prediction.areas().items()]
                logger.info("%s: %s", path, "; ".join(described))
    if problems:
        for problem in problems:
            logger.warning("not predicted: %s", problem)
        raise UnfinishedError(f"{len(problems):,} of {len(names):,} queries were not predicted: {first_of(problems)}")


def _read(path: Path) -> np.ndarray:
    try:
        return read_image(path)
    except OSError as error:
        raise UserError(f"{path}: not a readable image ({error.strerror}); leave it out") from None


def _in_words(name: str, area: Area) -> str:
    there = "" if area.presence is None else f", which is there with a probability of {100 * area.presence:.0f} %"
    return f"{100 * area.share:.1f} % {name}{there}"
