"""Meta-test: from a configuration to the results of a network or of a method without training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from commands.equal_draws import require_equal_draws
from commands.folder_test import score_every_photograph
from engine.evaluate import Refinement, evaluate
from engine.folder_results import build_folder_results, folder_table, save_folder_test
from engine.gallery import EXAMPLES, WORST, Gallery, episode_caption
from engine.inspection_sheet import inspection_sheet
from engine.metrics import EpisodeMetrics
from engine.report import results_table
from engine.results import RESULTS, build_results, save_test
from engine.run_folder import LATEST, check_run_folder
from engine.scores import PHOTOGRAPHS, SCORES
from engine.single_episodes import PredictedEpisode, predict_episode
from episodes.build import Evaluation, evaluation, folder_evaluation, known_classes
from episodes.class_names import dataset_names
from episodes.lists import ImageList
from episodes.supervised import SupervisedEpisodes
from masks.superpixels.refinement import refined
from model import FSSModel
from model.baselines import Baseline
from model.checkpoints import provenance, read_network
from model.frozen.feature_cache import FeatureCache
from model.fss_network import NetworkSettings, configured_backbone
from model.hamming_clustering import PublishedHammingClustering
from util.config import Config
from util.device import choose_device, memory_for
from util.distributed import only_group_in, rank, world_size
from util.environment import describe_environment
from util.errors import UserError
from util.images import read_image, write_image
from util.logging import logger
from util.seed import seed_everything

# What needs less memory where it runs out in a test.
_MEMORY_KEYS = "TRAIN.batch_size_val, or TRAIN.val_size"


def score_experiment(config: Config, method: str) -> None:
    """Test, write ``results.json``, the scores of the episodes and sheets of examples."""
    require_equal_draws(config)
    model, origin = build_method(config, method)
    origin = with_known_classes(config, origin)
    test = evaluation(config)
    # Methods without a checkpoint do not overwrite the experiment's results.
    with _test_folder(config, [] if method == "network" else [method], (RESULTS, SCORES, EXAMPLES, WORST)) as folder:
        table = run_test(config, model, test, folder=folder, origin={"method": method, **origin})
    logger.info("results in %s\n%s", folder, table)


def score_folder(config: Config, method: str) -> None:
    """Ask for each class in every image of the test list, write ``results.json`` and ``photographs.csv``."""
    require_equal_draws(config)
    model, origin = build_method(config, method)
    origin = with_known_classes(config, origin)
    test = folder_evaluation(config)
    suffixes = [*([] if method == "network" else [method]), "every_photograph"]
    with _test_folder(config, suffixes, (RESULTS, PHOTOGRAPHS)) as folder:
        options = _evaluation_options(config, model, test)
        with memory_for(_MEMORY_KEYS):
            scores, thresholds, further, seconds = score_every_photograph(model, test, options)
        protocol = {
            "method": method,
            **origin,
            **test_protocol(config, test.episodes.images, test.total),
            "gate": _gate(model.presence_threshold),
            "further_supports": [*further.values()],
        }
        results = build_folder_results(scores, protocol, min_area=config.DATA.min_area, thresholds=thresholds)
        if rank() == 0:
            save_folder_test(folder, results, scores)
    table = folder_table(results, seconds / test.total, dataset_names(config.DATA.data_root))
    logger.info("results in %s\n%s", folder, table)


def inspect_episodes(config: Config, method: str, numbers: Sequence[int]) -> None:
    """Predict episodes of the test, by their ``numbers`` in it, and write a sheet of the steps to each prediction.

    ``inspected_NUMBER.png`` lies where the test writes. Raises ``UserError`` for a number that the test does not have,
    and for a network whose prediction depends on the episodes before it.
    """
    model, _ = build_method(config, method)
    test = evaluation(config)
    _check_numbers(numbers, test.total)
    if isinstance(model, FSSModel) and isinstance(model.hamming_clustering, PublishedHammingClustering):
        raise UserError(
            "--inspect: the published clustering draws for one episode after the other, so none is predicted alone; "
            "inspect a network with TRAIN.compat=ours, or a method without training"
        )
    files = {number: f"inspected_{number}.png" for number in numbers}
    images, names = test.episodes.images, _class_names(config)
    with _test_folder(config, [] if method == "network" else [method], list(files.values())) as folder:
        for episode in predicted_episodes(config, model, test, list(files)[rank() :: world_size()]):
            caption = episode_caption(episode.number, episode.class_id, episode.score, names)
            query = read_image(images.image_path(episode.query_index))
            sheet = inspection_sheet(
                episode, query, caption, content_size=test.content_size, refined=config.TRAIN.refine
            )
            write_image(folder / files[episode.number], sheet)
            logger.info("%s: %s", folder / files[episode.number], caption)


def predicted_episodes(
    config: Config, model: FSSModel | Baseline, test: Evaluation[SupervisedEpisodes], numbers: Iterable[int]
) -> Iterator[PredictedEpisode]:
    """Episodes of a test, by their numbers in it, predicted as in the test, one after the other."""
    options = _evaluation_options(config, model, test)
    for number in numbers:
        with memory_for(_MEMORY_KEYS):
            episode = predict_episode(model, number, test.batch_with(number), **options)
        yield episode


def _check_numbers(numbers: Iterable[int], total: int) -> None:
    for number in numbers:
        if number >= total:
            raise UserError(f"--inspect {number}: no such episode; the test has those from 0 to {total - 1}")


def _gate(threshold: float | None) -> str:
    """For the protocol: what the gate of a folder test is, from the ``threshold`` of ``presence_in_folder``."""
    if threshold is None:
        return "none"
    return "relative to the folder" + ("" if threshold == -math.inf else f"; similarity {threshold:.3f} expected in it")


def build_method(config: Config, method: str) -> tuple[FSSModel | Baseline, dict[str, Any]]:
    """The model to test, and its origin for the protocol."""
    settings = config.TRAIN
    if method == "network":
        path = settings.weight or config.run_folder / LATEST
        if not path.exists():
            raise UserError(
                f"{path}: no checkpoint here; train it with `bash train.sh {config.dataset} {config.experiment}`, "
                "or name one with TRAIN.weight=FILE"
            )
        stored = read_network(path)
        return FSSModel.from_stored(stored), provenance(stored)
    seed_everything(settings.manual_seed, "initialisation")
    network = NetworkSettings.configured(settings)
    model: FSSModel | Baseline
    if method == "untrained":
        model = FSSModel.from_settings(network, backbone_weights=settings.backbone_weights)
    else:
        model = Baseline(method, configured_backbone(network, settings.backbone_weights))
    return model, {"checkpoint": f"none (backbone {settings.backbone})", "trained": "no", "label_use": "none"}


def with_known_classes(config: Config, origin: Mapping[str, Any]) -> dict[str, Any]:
    """The origin, for the protocol, with the classes of the test whose labels the network was trained on.

    Nothing is added where there are none; else they are warned of. A network states folds of its own dataset alone.
    """
    known = known_classes(config, origin["label_use"]) if origin["trained"].startswith(f"{config.dataset} ") else []
    if not known:
        return dict(origin)
    numbers = ", ".join(map(str, known))
    logger.warning("trained with the labels of classes of this test, so they are not novel: %s", numbers)
    return {**origin, "known_classes": known}


def run_test(
    config: Config,
    model: FSSModel | Baseline,
    test: Evaluation[SupervisedEpisodes],
    *,
    folder: Path,
    origin: dict[str, Any],
) -> str:
    """Score ``model`` on the experiment's test, write results, scores and sheets into ``folder``; returns the table."""
    images = test.episodes.images
    names = _class_names(config)
    gallery = Gallery(config.VIS.pictures, test.total, lambda row: read_image(images.image_path(row)), names)
    metrics = _scored(config, model, test, on_prediction=gallery.add if config.VIS.visualize else None)
    slots = sorted({test.slot(number) for number in test.episodes.classes})
    results = build_results(metrics, {**origin, **test_protocol(config, images, metrics.episodes)}, slots)
    gallery.gather()
    if rank() == 0:
        save_test(folder, results, metrics.scores, gallery)
    return results_table(results, metrics.seconds / metrics.episodes, names)


def _class_names(config: Config) -> dict[int, str]:
    """Names of classes; the published protocol counts slots, not classes, so there are none."""
    return {} if config.published else dataset_names(config.DATA.data_root)


def refinement(config: Config) -> Refinement | None:
    """What predictions of the configuration are refined by."""
    return refined if config.TRAIN.refine else None


@contextmanager
def _test_folder(config: Config, suffixes: Sequence[str], files: Sequence[str]) -> Iterator[Path]:
    """Where a test writes its ``files``: ``TRAIN.save_path``, else beside the run folder; no other test may, meanwhile.

    Without ``suffixes`` it is the run folder itself.
    """
    own_folder = config.run_folder.with_name("_".join([config.run_folder.name, *suffixes]))
    folder = config.run_folder if config.TRAIN.save_path else own_folder
    with only_group_in(folder, ".test.lock"):  # not that of a training, whose checkpoints may be tested
        if rank() == 0:
            check_run_folder(folder, files)
        yield folder


def _scored(
    config: Config, model: FSSModel | Baseline, test: Evaluation[SupervisedEpisodes], **options: Any
) -> EpisodeMetrics:
    """The scores of ``model``; ``options`` as of ``evaluate``."""
    shared = _evaluation_options(config, model, test)
    with memory_for(_MEMORY_KEYS):
        return evaluate(model, test.batches.numbered(), total=test.total, **shared, **options)


def _evaluation_options(config: Config, model: FSSModel | Baseline, test: Evaluation[Any]) -> dict[str, Any]:
    """What all and single episodes of a test are predicted and scored with. Seeds; ``model`` goes to the device."""
    device, images = choose_device(config.TRAIN.train_gpu), test.episodes.images
    model.backbone = FeatureCache(model.backbone)
    model.to(device)
    seed_everything(config.TRAIN.manual_seed, "test")  # the published clustering draws in tests too
    return {
        "device": device,
        "content_size": test.content_size,
        "refine": refinement(config),
        "slot": test.slot,
        "query_name": lambda row: images.images[row],
    }


def test_protocol(config: Config, images: ImageList, episodes: int) -> dict[str, Any]:
    """How the results are measured, apart from what is tested."""
    settings = config.TRAIN
    return {
        "dataset": config.dataset,
        "val_list": f"{config.DATA.val_list.name}, {len(images)} images, {images.digest[:12]}",
        "split": settings.split,
        "shots": settings.shot,
        "episodes": episodes,
        "seed": settings.manual_seed,
        "size": settings.val_size,
        "min_area": config.DATA.min_area,
        "refined": settings.refine,
        "compat": settings.compat,
        "torch": torch.__version__,
        "commit": describe_environment()["commit"],
    }
