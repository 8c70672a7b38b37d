"""From a configuration to its episodes: the one place that knows which keys mean what to this room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from episodes.folds import fold_classes
from episodes.lists import ImageList, read_list
from episodes.loaders import EpisodeLoader, make_loader
from episodes.pseudo import PseudoEpisodes, check_manifest
from episodes.supervised import SupervisedEpisodes
from episodes.transforms import TrainTransform, ValTransform, content_size
from util.config import Config

TrainingEpisodes = PseudoEpisodes | SupervisedEpisodes


def training_episodes(config: Config) -> TrainingEpisodes:
    """Pseudo episodes for ``ssl_*`` experiments, which open no label; else episodes of the fold's classes."""
    train = config.TRAIN
    transform = TrainTransform(
        height=train.train_h,
        width=train.train_w,
        scale_range=(train.scale_min, train.scale_max),
        rotate_range=(train.rotate_min, train.rotate_max),
        # Objects as large in training as in the test; the published code scales the file as it comes.
        longer_side=None if config.published else train.val_size,
    )
    if config.unsupervised:
        images = read_list(config.DATA.train_list, config.DATA.data_root, need_labels=False)
        check_manifest(config.pseudo_folder, pseudo_settings(config, images))
        return PseudoEpisodes(
            images,
            config.pseudo_folder,
            shots=train.shot,
            seed=train.manual_seed,
            transform=transform,
            neighbours=config.Cluster.neighbours,
        )
    train_classes, test_classes = _folds(config)
    return SupervisedEpisodes(
        read_list(config.DATA.train_list, config.DATA.data_root, need_labels=True),
        train_classes,
        shots=train.shot,
        seed=train.manual_seed,
        transform=transform,
        min_area=config.DATA.min_area,
        drop_classes=test_classes if config.DATA.drop_novel_images else (),
        void_is_padding=_void_is_padding(config),
    )


@dataclass(frozen=True)
class Evaluation:
    """A test: its episodes, how many of them, and what ``engine.evaluate.evaluate`` has to know."""

    episodes: SupervisedEpisodes
    batches: EpisodeLoader
    total: int
    content_size: Callable[[int, int], tuple[int, int]] | None
    slot: Callable[[int], int]


def evaluation(config: Config) -> Evaluation:
    """The test of the experiment's fold: 1,000 episodes, for COCO 5,000, or ``TRAIN.episodes``.

    In the published protocol there is one more, split 5 folds the classes into the slots of one fold, and the
    content's size is not known (docs/method.md, section 12).
    """
    train = config.TRAIN
    _, test_classes = _folds(config)
    episodes = SupervisedEpisodes(
        read_list(config.DATA.val_list, config.DATA.data_root, need_labels=True),
        test_classes,
        shots=train.shot,
        seed=train.manual_seed,
        transform=ValTransform(size=train.val_size, published=config.published),
        min_area=config.DATA.min_area,
        evaluation=True,
        void_is_padding=_void_is_padding(config),
    )
    nominal = 5000 if config.dataset == "coco" else 1000
    total = train.episodes or nominal + config.published
    batches = make_loader(
        episodes, epoch=0, episodes=total, batch_size=train.batch_size_val, workers=train.workers, drop_last=False
    )
    fold_size = 20 if config.dataset == "coco" else 5
    return Evaluation(
        episodes=episodes,
        batches=batches,
        total=total,
        content_size=None if config.published else partial(content_size, size=train.val_size),
        slot=(lambda class_id: test_classes.index(class_id) % fold_size) if config.published else int,
    )


def pseudo_settings(config: Config, images: ImageList) -> dict[str, Any]:
    """What a pseudo folder's manifest must say to fit ``config``."""
    cluster = config.Cluster
    settings: dict[str, Any] = {
        "recipe": cluster.recipe,
        "extractor": cluster.extractor,
        "stage": cluster.stage,
        "stride": cluster.stride,
        "flip": cluster.flip,
        "scales": cluster.scales,
        "region_rule": cluster.region_rule,
        "empty_share": cluster.empty_share,
        "border_share": cluster.border_share,
        "image_share": cluster.image_share,
        "min_area": config.DATA.min_area,
        "list_digest": images.digest,
        "file_sizes_digest": images.file_sizes_digest(),
    }
    if cluster.recipe == "global":
        settings |= {"cluster_num": cluster.cluster_num, "algorithm": cluster.algorithm}
    if cluster.recipe == "objects":
        settings |= {"object_share": cluster.object_share}
    return settings


def _folds(config: Config) -> tuple[list[int], list[int]]:
    train = config.TRAIN
    return fold_classes(config.dataset, train.split, train.use_split_coco, classes=config.DATA.classes)


def _void_is_padding(config: Config) -> bool:
    """The published code takes void pixels for padding, in PASCAL only."""
    return config.published and config.dataset != "coco"
