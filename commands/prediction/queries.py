"""Prediction of many queries: each is read, predicted and written; what cannot be read stops no other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from engine.prediction_files import PredictionFolder
from engine.predictions import Area, Prediction
from util.errors import UnfinishedError, UserError, first_of
from util.images import read_image
from util.logging import logger

Presence: TypeAlias = "dict[str, float | None]"


class Judge(Protocol):
    """What ``presence_of_all`` needs of ``segmenter.Segmenter``."""

    def look(self, image: np.ndarray) -> Tensor: ...

    def presence_in(self, looks: Sequence[Tensor]) -> list[Presence]: ...

    def extend(self, looks: Sequence[Tensor], image: Callable[[int], np.ndarray]) -> dict[str, list[int]]: ...


def presence_of_all(judge: Judge, queries: Collection[Path]) -> dict[Path, Presence]:
    """For each query that can be read the probability that it shows a class, judged by all of them together.

    The surest become further supports of ``judge``, which is said; it judges, and will predict, by them too.
    """
    looks: dict[Path, Tensor] = {}
    for path in tqdm(queries, unit="image", desc="look for what is there", disable=None):
        with suppress(UserError):  # said when it is to be predicted
            looks[path] = judge.look(_read(path))
    readable = [*looks]
    taken = judge.extend([*looks.values()], lambda number: _read(readable[number]))
    for name, numbers in taken.items():
        for number in numbers:
            logger.info("%s: among the surest to show %s, a further support as it is predicted", readable[number], name)
    return dict(zip(readable, judge.presence_in([*looks.values()]), strict=True))


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
