"""Meta-training: from a configuration to a trained network, in one run or several."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from commands.equal_draws import require_equal_draws
from commands.meta_test import refinement
from commands.view_cache import fixed_views
from engine.epoch_report import Metrics
from engine.evaluate import evaluate
from engine.optimizers import build_optimizers
from engine.presence_calibration import EPISODES, calibrate
from engine.run_folder import LATEST, LOG, check_run_folder, describe_run, interrupted_run
from engine.trainer import Trainer
from episodes.build import (
    TrainingEpisodes,
    digest_training_data,
    evaluation,
    pseudo_images,
    training_episodes,
    training_images,
    training_labels,
)
from episodes.episode import collate
from episodes.fixed_views import FeatureBatches
from episodes.folds import describe_label_use
from episodes.lists import ImageList
from episodes.loaders import make_loader
from episodes.pseudo_files import PseudoFiles
from masks.build import check_pseudo_masks
from model import FSSModel
from model.checkpoints import load_weights, read_network
from model.fss_network import NetworkSettings
from util.config import Config
from util.device import choose_device, memory_for
from util.distributed import describe_processes, done_by_first, only_group_in, rank, world_size
from util.errors import UserError
from util.files import remove_left_overs
from util.logging import logger, start_logging
from util.seed import seed_everything


def train_experiment(config: Config) -> None:
    """Train, or continue the run that the experiment's folder holds."""
    images = training_images(config)
    with training_labels(config, images):
        _train_on(config, images)


def _train_on(config: Config, images: ImageList) -> None:
    if config.uses_pseudo_masks:
        check_pseudo_masks(config, pseudo_images(config, images))
    episodes = training_episodes(config, images)
    with only_group_in(config.run_folder):
        if rank() == 0:
            prepare_run_folder(config.run_folder)
        train(config, build_trainer(config, episodes, digest_training_data(config, images)))


def prepare_run_folder(folder: Path) -> None:
    """Check that a run can be written into ``folder``, remove what killed ones left, and log into it."""
    check_run_folder(folder)
    for suffix in (".pth", ".jsonl"):
        remove_left_overs(folder, suffix)
    start_logging(folder / LOG)


def train(config: Config, trainer: Trainer) -> None:
    """Run what is left of the training, and say where the network is."""
    if trainer.finished:
        source = config.TRAIN.resume or config.run_folder / LATEST
        logger.info("nothing left to train: %s has all %d epochs", source, config.TRAIN.epochs)
        return
    if rank() == 0:
        describe_run(config, copies={"pseudo_masks.json": PseudoFiles(config.pseudo_folder).report})
    logger.info(
        "%s %s on %s%s: epochs %d to %d of %d steps, run folder %s",
        *(config.dataset, config.experiment, trainer.device, describe_processes()),
        *(trainer.finished_epochs + 1, config.TRAIN.epochs, trainer.steps, config.run_folder),
    )
    if trainer.position is not None or trainer.finished_epochs > 0:
        logger.info("continuing after %s", trainer.last_step)
    trainer.run()
    logger.info("trained: %s", config.run_folder / LATEST)


def build_trainer(config: Config, episodes: TrainingEpisodes, training_data: Mapping[str, str]) -> Trainer:
    """Network, optimizers and batches of ``config``, in the state in which the run was interrupted.

    ``training_data`` holds the digests of what the run is trained on, which those of the interrupted one must equal.
    """
    settings = config.TRAIN
    epoch_episodes = settings.epoch_episodes or len(episodes)
    check_batch(config, epoch_episodes)
    interrupted = done_by_first(lambda: interrupted_run(config, training_data))
    device = choose_device(settings.train_gpu)
    model, label_use = initial_model(config, None if interrupted is None else interrupted["network"])
    model.to(device)
    if interrupted is None and model.backbone.class_head is not None:
        calibrate_presence(model, episodes, device)
    loading: dict[str, Any] = {
        "episodes": epoch_episodes,
        "batch_size": settings.batch_size // world_size(),
        "workers": settings.workers,
    }
    trainer = Trainer(
        config=config,
        model=model,
        optimizers=build_optimizers(
            model,
            base_lr=settings.base_lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            transformer_lr=settings.transformer_lr,
            transformer_weight_decay=settings.transformer_weight_decay,
        ),
        device=device,
        batches=lambda epoch, first: make_loader(episodes, epoch=epoch, first_batch=first, drop_last=True, **loading),
        steps=epoch_episodes // settings.batch_size,
        validate=partial(validation_metrics, config, model, device) if settings.evaluate else None,
        picture_batch=(lambda: collate([episodes[0, 0]])) if config.VIS.visualize else None,
        label_use=label_use,
        training_data=training_data,
    )
    if interrupted is not None:
        trainer.resume(interrupted)
    if settings.views:  # now that the backbone has the weights of an interrupted run
        steps_left = settings.epochs * trainer.steps - trainer.steps_done
        views = fixed_views(
            config, episodes, training_data, model.backbone, device, left=steps_left * settings.batch_size
        )
        trainer.batches = lambda epoch, first: FeatureBatches(
            make_loader(views, epoch=epoch, first_batch=first, drop_last=True, join=list, **loading),
            views, model.backbone, device,
        )  # fmt: skip
    return trainer


def check_batch(config: Config, epoch_episodes: int) -> None:
    """Raise ``UserError`` for a batch that an epoch does not fill, or processes and parts do not divide."""
    batch, parts = config.TRAIN.batch_size, world_size() * config.TRAIN.accumulate
    if epoch_episodes < batch:
        raise UserError(
            f"TRAIN.batch_size={batch} is more than the {epoch_episodes} episodes of an epoch; "
            "decrease it or increase TRAIN.epoch_episodes"
        )
    if batch % parts:
        raise UserError(
            f"TRAIN.batch_size={batch} cannot be divided by {world_size()} processes and TRAIN.accumulate="
            f"{config.TRAIN.accumulate}; a multiple of {parts} expected"
        )
    require_equal_draws(config)


def initial_model(config: Config, interrupted: Mapping[str, Any] | None) -> tuple[FSSModel, str]:
    """The network before the first step, from ``TRAIN.weight`` where that is set, and the labels it will depend on.

    ``interrupted`` are the settings of the network whose training goes on; it has weights of its own.
    """
    weight, settings = config.TRAIN.weight, NetworkSettings.configured(config.TRAIN)
    stored = None if weight is None else read_network(weight)
    earlier = stored.settings if interrupted is None and stored is not None else interrupted
    if earlier is not None:  # whether there is a classifier is known by the weights
        settings = settings.model_copy(update={"class_scores": earlier.get("class_scores") is True})
    seed_everything(config.TRAIN.manual_seed, "initialisation")
    model = FSSModel.from_settings(
        settings,
        backbone_weights=config.TRAIN.backbone_weights if earlier is None else None,
        train_h=config.TRAIN.train_h,
        train_w=config.TRAIN.train_w,
    )
    own_use = "none" if config.unsupervised else describe_label_use(config.TRAIN.split)
    if stored is None:
        return model, own_use
    load_weights(model, stored)
    earlier_use = stored.origin["label_use"]
    return model, own_use if earlier_use in ("none", own_use) else f"{earlier_use}, {own_use}"


def calibrate_presence(model: FSSModel, episodes: TrainingEpisodes, device: torch.device) -> None:
    """Learn from the first training episodes from which similarity on an object is there."""

    def calibration() -> list[float]:
        first = [episodes[0, index] for index in range(min(EPISODES, len(episodes)))]
        return calibrate(model.backbone, first, device)

    model.presence_calibration.copy_(torch.tensor(done_by_first(calibration)))
    if model.presence_threshold is None:
        logger.warning("WARNING: the class scores of the backbone do not tell whether an object is in an image")
    else:
        logger.info("an object is there from a similarity of %.3f on", model.presence_threshold)


def validation_metrics(config: Config, model: FSSModel, device: torch.device) -> Metrics:
    """mIoU, FB-IoU and accuracy on the test episodes of the fold, 0..1."""
    test = evaluation(config)
    with memory_for("TRAIN.batch_size_val, or TRAIN.val_size"):
        return evaluate(
            model,
            test.batches.numbered(),
            device=device,
            content_size=test.content_size,
            refine=refinement(config),
            slot=test.slot,
            total=test.total,
        ).means()
