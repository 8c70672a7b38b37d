"""Loaders: workers, batch size and resume change nothing."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch

from episodes.episode import Batch, EpisodeSampler
from episodes.lists import ImageList
from episodes.loaders import make_loader
from episodes.pseudo import PseudoEpisodes
from episodes.supervised import SupervisedEpisodes
from episodes.transforms import ValTransform
from tests.episodes.drawn_images import TRAIN

MANY_WORKERS = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
Episodes = SupervisedEpisodes | PseudoEpisodes


def read(
    dataset: Episodes, *, epoch: int = 0, episodes: int = 12, batch_size: int = 4, workers: int = 0
) -> list[Batch]:
    loader = make_loader(
        dataset, epoch=epoch, episodes=episodes, batch_size=batch_size, workers=workers, drop_last=False
    )
    batches = list(loader)
    assert len(batches) == len(loader)
    return batches


def assert_same_episodes(first: list[Batch], second: list[Batch]) -> None:
    for name in ("query_image", "query_mask", "query_padding", "support_images", "support_masks", "class_id"):
        joined = [torch.cat([batch[name] for batch in batches]) for batches in (first, second)]
        assert torch.equal(*joined), name


@MANY_WORKERS
def test_workers_and_batch_size_change_nothing(training: SupervisedEpisodes) -> None:
    alone = read(training)
    assert_same_episodes(alone, read(training, workers=4))
    assert_same_episodes(alone, read(training, batch_size=1, workers=2))


@MANY_WORKERS
def test_pseudo_episodes_do_not_depend_on_workers_either(unlabelled: ImageList, pseudo_folder: Path) -> None:
    dataset = PseudoEpisodes(unlabelled, pseudo_folder, shots=1, seed=5, transform=TRAIN)
    assert_same_episodes(read(dataset), read(dataset, workers=4))


def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(training: SupervisedEpisodes, images: ImageList) -> None:
    for epoch in range(3):
        last = read(training, epoch=epoch)
    resumed = SupervisedEpisodes(images, (1, 2, 3), shots=2, seed=5, transform=TRAIN, min_area=200)
    assert_same_episodes(last, read(resumed, epoch=2))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_at_a_batch_without_reading_those_before(training: SupervisedEpisodes, workers: int) -> None:
    whole = read(training)

    class Recorded:
        def __getitem__(self, key: tuple[int, int]) -> object:
            assert key[1] >= 8, "an episode of an earlier batch"
            return training[key]

    rest = make_loader(
        Recorded(),  # type: ignore[arg-type]
        epoch=0, episodes=12, batch_size=4, workers=workers, drop_last=False, first_batch=2,
    )  # fmt: skip
    assert len(rest) == 1
    assert_same_episodes(whole[2:], list(rest))


def test_global_generators_are_neither_read_nor_moved(training: SupervisedEpisodes) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = read(training)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert_same_episodes(first, read(training))


def test_a_batch_stacks_everything_but_original_masks(images: ImageList) -> None:
    dataset = SupervisedEpisodes(
        images, (1, 2, 3), shots=2, seed=5, transform=ValTransform(size=41), min_area=200, evaluation=True
    )
    batch = read(dataset, episodes=3, batch_size=3)[0]
    assert batch["query_image"].shape == (3, 3, 41, 41)
    assert batch["support_images"].shape == (3, 2, 3, 41, 41)
    assert batch["support_padding"].shape == batch["support_masks"].shape == (3, 2, 41, 41)
    assert batch["class_id"].dtype == batch["query_index"].dtype == torch.int64
    assert [tuple(mask.shape) for mask in batch["original_mask"]] == [(60, 80), (80, 60), (75, 50)]


def test_data_sets_travel_to_processes_that_do_not_fork(
    training: SupervisedEpisodes, unlabelled: ImageList, pseudo_folder: Path
) -> None:
    for dataset in (training, PseudoEpisodes(unlabelled, pseudo_folder, shots=1, seed=5, transform=TRAIN)):
        assert len(ForkingPickler.dumps(dataset)) > 0


def _keys(**options: int | bool) -> list[list[tuple[int, int]]]:
    settings = {"epoch": 2, "episodes": 11, "batch_size": 2, "drop_last": True}
    return list(EpisodeSampler(**{**settings, **options}))  # type: ignore[arg-type]


def test_keys_come_in_order_and_the_incomplete_batch_last() -> None:
    assert _keys(episodes=5, drop_last=False) == [[(2, 0), (2, 1)], [(2, 2), (2, 3)], [(2, 4)]]
    assert _keys(episodes=5) == [[(2, 0), (2, 1)], [(2, 2), (2, 3)]]
    assert _keys(episodes=1) == []


def test_processes_share_the_batches_of_one() -> None:
    """Step by step two processes see what one with the double batch size sees."""
    together = _keys(batch_size=4)
    apart = [_keys(rank=rank, world_size=2) for rank in (0, 1)]
    assert [first + second for first, second in zip(*apart, strict=True)] == together
