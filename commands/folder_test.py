"""A test of every photograph: each is predicted, and again with the folder's surest as further supports.

docs/method.md, section 12.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.episode_presence import describe_queries_of, describe_supports_of
from engine.evaluate import evaluate
from engine.metrics import EpisodeScore
from engine.single_episodes import predict_episode
from episodes.build import Evaluation
from episodes.episode import Batch, collate, fit_mask
from episodes.every_photograph import EveryPhotograph
from episodes.further_supports import as_support, further_supports, rounds
from episodes.transforms import View
from model import FSSModel
from model.baselines import Baseline
from model.presence import FolderPresence, presence_in_folder
from util.distributed import done_by_first, rank, world_size


class FolderScores(NamedTuple):
    """What all episodes scored, in their order."""

    scores: list[EpisodeScore]  # with similarities
    thresholds: dict[int, float]  # by class, above which of these it is taken to be in an image
    further: dict[int, int]  # by class, how many further supports it had
    seconds: float  # that all predictions took


def score_every_photograph(
    model: FSSModel | Baseline, test: Evaluation[EveryPhotograph], options: Mapping[str, Any]
) -> FolderScores:
    """Score ``model``; ``options`` are those of ``engine.evaluate.evaluate``, the same for all episodes.

    The surest images become further supports as they are predicted, by which presence is judged anew, and that again.
    The images that a class is taken to be in at the end are predicted with all supports. In a small folder, without
    training, and where the model cannot tell presence, there are no further ones.
    """
    episodes = test.episodes
    first = evaluate(model, test.batches.numbered(), total=test.total, **options)
    presence, further = done_by_first(lambda: _judged(model, episodes, options))
    likely = (presence.similarities > presence.thresholds[:, None]).numpy() & episodes.asked
    likely[[position for position, views in enumerate(further) if not views]] = False
    numbers = sorted(episodes.numbers[likely].tolist())
    own_part = numbers[rank() :: world_size()]
    again = evaluate(model, _extended(episodes, own_part, further), total=len(numbers), **options)
    scores = dict(enumerate(first.scores)) | dict(zip(numbers, again.scores, strict=True))
    similarities = presence.similarities.numpy()[episodes.asked].tolist()
    for number, similarity in zip(episodes.numbers[episodes.asked].tolist(), similarities, strict=True):
        scores[number] = scores[number]._replace(similarity=similarity)
    thresholds = dict(zip(episodes.classes, presence.thresholds.tolist(), strict=True))
    counts = dict(zip(episodes.classes, map(len, further), strict=True))
    return FolderScores(
        [scores[number] for number in range(test.total)], thresholds, counts, first.seconds + again.seconds
    )


def _judged(
    model: FSSModel | Baseline, episodes: EveryPhotograph, options: Mapping[str, Any]
) -> tuple[FolderPresence, list[list[View]]]:
    """Where each class is, by all of its supports, and the further ones among these."""
    device = options["device"]
    queries: Iterable[Tensor] = describe_queries_of(model.backbone, episodes.of_each_query(), device)
    further: list[list[View]] = [[] for _ in episodes.classes]
    if model.presence_threshold is None:  # many vectors of each query, which would fill the memory
        return _presence(model, episodes, queries, further, device), further
    queries = [*queries]
    is_trained = isinstance(model, FSSModel)  # the untrained lose by further supports
    for _ in range(rounds(len(queries), episodes.shots) if is_trained else 0):
        presence = _presence(model, episodes, queries, further, device)
        further = _further_supports(model, episodes, presence, further, options)
    return _presence(model, episodes, queries, further, device), further


def _presence(
    model: FSSModel | Baseline,
    episodes: EveryPhotograph,
    queries: Iterable[Tensor],
    further: Sequence[Sequence[View]],
    device: torch.device,
) -> FolderPresence:
    objects = describe_supports_of(model.backbone, episodes.of_each_class(further), device)
    asked = torch.from_numpy(episodes.asked).to(device)
    presence = presence_in_folder(objects, queries, asked, model.presence_threshold)
    return FolderPresence(*(part.cpu() for part in presence))


def _further_supports(
    model: FSSModel | Baseline,
    episodes: EveryPhotograph,
    presence: FolderPresence,
    further: Sequence[Sequence[View]],
    options: Mapping[str, Any],
) -> list[list[View]]:
    """Those of each class, as they are predicted with the ``further`` ones of before."""

    def support(number: int) -> View | None:
        ((_, batch),) = _extended(episodes, [number], further)
        predicted = predict_episode(model, number, (number, batch), **options)
        image = batch["original_image"][0].numpy()
        return as_support(image, fit_mask(predicted.prediction.numpy(), image), episodes.transform)

    of_classes = []
    for probabilities, numbers in zip(presence.probabilities().tolist(), episodes.numbers.tolist(), strict=True):
        asked = {number: each for number, each in zip(numbers, probabilities, strict=True) if number >= 0}
        of_classes.append([*further_supports(asked, episodes.shots, support).values()])
    return of_classes


def _extended(
    episodes: EveryPhotograph, numbers: Sequence[int], further: Sequence[Sequence[View]]
) -> Iterator[tuple[int, Batch]]:
    """The episodes with these numbers, each alone, with the further supports of their class."""
    for number in numbers:
        position = episodes.classes.index(episodes.draw((0, number)).class_id)
        yield number, collate([episodes.extended(number, further[position])])
