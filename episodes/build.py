"""From a configuration to its episodes: the only file here that knows the keys of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from episodes.closed_labels import Pair, closed_labels, read_pairs
from episodes.episode import Batch, collate
from episodes.every_photograph import EveryPhotograph
from episodes.folds import fold_classes, splits_in
from episodes.joint import JointEpisodes
from episodes.label_index import label_areas
from episodes.lists import ImageList, read_list
from episodes.loaders import EpisodeLoader, make_loader
from episodes.protocols import SupportVoid, protocol
from episodes.pseudo import PseudoEpisodes
from episodes.pseudo_files import PseudoFiles
from episodes.supervised import SupervisedEpisodes
from episodes.transforms import TrainTransform, ValTransform, content_size
from util.config import Config
from util.files import digest_file, digest_lines
from util.logging import logger

TrainingEpisodes = PseudoEpisodes | SupervisedEpisodes | JointEpisodes
EpisodesT = TypeVar("EpisodesT", SupervisedEpisodes, EveryPhotograph)
_DIGITS = 12  # of a SHA-256, enough to tell data apart


def training_images(config: Config) -> ImageList:
    """The training list: all images where training reads no label, else those that have one."""
    reads_labels = not config.unsupervised
    return read_list(
        config.DATA.train_list, config.DATA.data_root, need_labels=reads_labels, leave_out_unlabelled=reads_labels
    )


def pseudo_images(config: Config, images: ImageList) -> ImageList:
    """The images that the pseudo masks were made of, with and without labels; ``images`` are the ``training_images``.

    They are those of ``DATA.pseudo_list``, else all of the training list.
    """
    if config.unsupervised and config.DATA.pseudo_list is None:
        return images
    return read_list(config.DATA.pseudo_list or config.DATA.train_list, config.DATA.data_root, need_labels=False)


def training_labels(config: Config, images: ImageList) -> AbstractContextManager[None]:
    """A block in which an unsupervised training can open no label, but for those that ``TRAIN.evaluate`` needs.

    ``images`` are the ``training_images``.
    """
    if not config.unsupervised:
        return nullcontext()
    return _without_labels(config, images, validates=config.TRAIN.evaluate)


def no_labels(config: Config, images: ImageList) -> AbstractContextManager[None]:
    """A block in which no label of either list can be opened; ``images`` are those of the training list."""
    return _without_labels(config, images, validates=False)


def digest_training_data(config: Config, images: ImageList) -> dict[str, str]:
    """Digests of what the ``training_episodes`` are drawn from, by which a run that is continued knows its data.

    Of the pseudo masks that is their manifest, which describes images and settings; of labelled images the ids in
    order and how many pixels of each value the labels have.
    """
    digests = {}
    if config.uses_pseudo_masks:
        digests["pseudo_masks"] = digest_file(PseudoFiles(config.pseudo_folder).manifest)
    if not config.unsupervised:
        digests["train_list"] = digest_lines(Path(image).stem for image in images.images)
        digests["labels"] = label_areas(images).digest()
    return {name: digest[:_DIGITS] for name, digest in digests.items()}


def training_episodes(config: Config, images: ImageList) -> TrainingEpisodes:
    """Pseudo episodes for ``ssl_*`` experiments, which open no label; else episodes of the fold's classes.

    The latter are joined by pseudo episodes where ``TRAIN.pseudo_share`` says so, as in ``joint_*`` experiments.
    ``images`` are the ``training_images``. That the pseudo masks fit the configuration is checked by
    ``masks.build.check_pseudo_masks``.
    """
    if config.unsupervised:
        return _pseudo_episodes(config, images)
    labelled = _labelled_episodes(config, images)
    if not config.uses_pseudo_masks:
        return labelled
    pseudo = _pseudo_episodes(config, pseudo_images(config, images))
    return JointEpisodes(labelled, pseudo, pseudo_share=config.TRAIN.pseudo_share)


@dataclass(frozen=True)
class Evaluation(Generic[EpisodesT]):
    """A test: its episodes, their number, and what ``engine.evaluate.evaluate`` needs to know."""

    episodes: EpisodesT
    batches: EpisodeLoader
    total: int
    content_size: Callable[[int, int], tuple[int, int]] | None
    slot: Callable[[int], int]
    batch_size: int

    def batch_with(self, number: int) -> tuple[int, Batch]:
        """The batch of the test that holds an episode, after the number of its first one.

        In this process, whichever would read it in a test. Raises ``UserError`` for a file that cannot be used.
        """
        first = number // self.batch_size * self.batch_size
        numbers = range(first, min(first + self.batch_size, self.total))
        return first, collate([self.episodes[0, index] for index in numbers])


def evaluation(config: Config) -> Evaluation[SupervisedEpisodes]:
    """The test of the experiment's fold: 1,000 episodes, for COCO 5,000, or ``TRAIN.episodes``.

    In the published protocol there is one more, split 5 folds the classes into the slots of one fold, and the
    content's size is not known (docs/method.md, section 12).
    """
    train, rules = config.TRAIN, protocol(config.dataset)
    _, test_classes = _folds(config)
    images = read_list(config.DATA.val_list, config.DATA.data_root, need_labels=True)
    episodes = SupervisedEpisodes(images, test_classes, evaluation=True, **_test_settings(config))
    return _evaluation(
        config,
        episodes,
        total=train.episodes or rules.test_episodes + config.published,
        slot=(lambda class_id: test_classes.index(class_id) % rules.fold_size) if config.published else int,
    )


def folder_evaluation(config: Config) -> Evaluation[EveryPhotograph]:
    """Each class of the experiment's fold asked for in every image of the test list."""
    images = read_list(config.DATA.val_list, config.DATA.data_root, need_labels=True)
    episodes = EveryPhotograph(images, _folds(config)[1], **_test_settings(config))
    return _evaluation(config, episodes, total=len(episodes), slot=int)


def known_classes(config: Config, label_use: str) -> list[int]:
    """The classes of the test whose labels a network was trained on that states this ``label_use`` of the dataset."""
    known = {number for split in splits_in(label_use) for number in _folds(config, split)[0]}
    return [number for number in _folds(config)[1] if number in known]


def _pseudo_episodes(config: Config, images: ImageList) -> PseudoEpisodes:
    return PseudoEpisodes(
        images,
        config.pseudo_folder,
        shots=config.TRAIN.shot,
        seed=config.TRAIN.manual_seed,
        transform=_train_transform(config),
        neighbours=config.Cluster.neighbours,
    )


def _labelled_episodes(config: Config, images: ImageList) -> SupervisedEpisodes:
    train = config.TRAIN
    train_classes, test_classes = _folds(config)
    novel_classes = [number for number in test_classes if number not in train_classes]
    if len(novel_classes) < len(test_classes):
        logger.warning("TRAIN.split=%d: all classes are trained on with labels, a test knows its classes", train.split)
    return SupervisedEpisodes(
        images,
        train_classes,
        shots=train.shot,
        seed=train.manual_seed,
        transform=_train_transform(config),
        min_area=config.DATA.min_area,
        drop_classes=novel_classes if config.DATA.drop_novel_images else (),
        support_void=_support_void(config),
    )


def _train_transform(config: Config) -> TrainTransform:
    train = config.TRAIN
    return TrainTransform(
        height=train.train_h,
        width=train.train_w,
        scale_range=(train.scale_min, train.scale_max),
        rotate_range=(train.rotate_min, train.rotate_max),
        # Objects as large in training as in the test; the published code scales the file as it is.
        longer_side=None if config.published else train.val_size,
    )


def _test_settings(config: Config) -> dict[str, Any]:
    train = config.TRAIN
    return {
        "shots": train.shot,
        "seed": train.manual_seed,
        "transform": ValTransform(size=train.val_size, published=config.published),
        "min_area": config.DATA.min_area,
        "support_void": _support_void(config),
    }


def _evaluation(
    config: Config, episodes: EpisodesT, *, total: int, slot: Callable[[int], int]
) -> Evaluation[EpisodesT]:
    train = config.TRAIN
    return Evaluation(
        episodes=episodes,
        batches=make_loader(
            episodes, epoch=0, episodes=total, batch_size=train.batch_size_val, workers=train.workers, drop_last=False
        ),
        total=total,
        content_size=None if config.published else partial(content_size, size=train.val_size),
        slot=slot,
        batch_size=train.batch_size_val,
    )


def _without_labels(config: Config, images: ImageList, *, validates: bool) -> AbstractContextManager[None]:
    training: list[Pair] = list(zip(images.images, images.labels, strict=True))
    validation = list(read_pairs(config.DATA.val_list, images.root))
    closed, opened = (training, validation) if validates else (training + validation, [])
    return closed_labels(images.root, closed, opened=opened, masks=config.pseudo_folder)


def _folds(config: Config, split: int | None = None) -> tuple[list[int], list[int]]:
    train = config.TRAIN
    split = train.split if split is None else split
    return fold_classes(config.dataset, split, train.use_split_coco, classes=config.DATA.classes)


def _support_void(config: Config) -> SupportVoid:
    return protocol(config.dataset).published_void if config.published else "void"
