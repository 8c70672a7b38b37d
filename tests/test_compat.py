"""What the published code does and what ours does, matter by matter: ``TRAIN.compat=published`` next to the default.

Matters that other tests show:
    LSH planes, first centroids, ties, empty clusters       model/test_hamming_clustering.py
    last superpixel; pseudo masks squeezed by the padding   masks/test_assign.py
    void pixels in the Dice loss; in no metric              model/test_loss.py; engine/test_metrics.py
    neighbours of a region                                  episodes/test_region_table.py
    how many neighbours when published                      util/config/test_config_published.py
    five shots, alike in both                               model/test_published_network.py
    logits stretched; black padding in tests                engine/test_evaluate.py; episodes/test_transforms.py
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from commands.meta_training import build_trainer
from engine.trainer import Trainer
from episodes.build import TrainingEpisodes, evaluation, training_episodes, training_images
from episodes.lists import write_list
from masks import cluster
from masks.build import manifest_settings
from masks.features import FeatureMaps
from masks.prepared_images import PreparedImage
from masks.recipes.clusters import ClusterRecipe, ClusterSegmenter, cluster_settings
from model import FSSModel
from model.frozen.extractors import Extractor
from model.fss_network import NetworkSettings
from model.loss import dice_loss
from tests.masks.small_images import write_images
from tests.model.networks import random_episode
from util.config import Config, load_config
from util.images import write_image, write_label

SIDE, SIZE, CONTENT = 80, 65, 64  # pixels: an image, the network's input, the content of that in a test
SMALL = ("TRAIN.backbone=mobilenetv2_035", "TRAIN.backbone_weights=", "TRAIN.hidden_dims=16")
COLOUR = Extractor(torch.nn.AvgPool2d(16), channels=3, stride=16, mean=(0.4, 0.5, 0.6), std=(1, 1, 1))
BOTH = pytest.mark.parametrize("compat", ["ours", "published"])


def load(dataset: str, experiment: str, compat: str, *overrides: str) -> Config:
    return load_config(dataset, f"{experiment}_mobilenetv2", [f"TRAIN.compat={compat}", *overrides])


def supervised_episodes(config: Config) -> TrainingEpisodes:
    return training_episodes(config, training_images(config))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Words for a list of three images with the classes 1 to 80, a row each, and two with 6 to 20 alone."""
    root = tmp_path_factory.mktemp("compat")
    pairs = [(f"photo_{row}.png", f"label_{row}.png") for row in range(5)]
    for row, (image, label) in enumerate(pairs):
        classes = np.arange(SIDE) + 1 if row < 3 else np.arange(SIDE) % 15 + 6
        mask = np.repeat(classes.astype(np.uint8)[:, None], SIDE, axis=1)
        mask[:, :16] = 255
        write_label(root / label, mask)
        write_image(root / image, np.full((SIDE, SIDE, 3), 200, dtype=np.uint8))
    write_list(root / "list.txt", pairs)
    return [
        *(f"DATA.data_root={root}", f"DATA.train_list={root}/list.txt", f"DATA.val_list={root}/list.txt"),
        *(f"TRAIN.train_h={SIZE}", f"TRAIN.train_w={SIZE}", f"TRAIN.val_size={SIZE}", "DATA.min_area=50"),
        *("TRAIN.scale_min=1", "TRAIN.scale_max=1", "TRAIN.rotate_min=0", "TRAIN.rotate_max=0", "TRAIN.workers=0"),
    ]


@BOTH
@pytest.mark.parametrize(("dataset", "nominal"), [("pascal", 1000), ("coco", 5000)])
def test_the_published_test_has_one_episode_more(data: list[str], dataset: str, nominal: int, compat: str) -> None:
    """Its padding is black, and its logits are stretched as if there were none."""
    test = evaluation(load(dataset, "split0", compat, *data))
    assert test.total == len(test.batches) == nominal + (compat == "published")
    assert (test.episodes[(0, 0)]["query_image"][:, -1, -1] < -1.8).all() == (compat == "published")
    assert (test.content_size is None) == (compat == "published")


@BOTH
def test_a_class_is_its_own_slot_and_published_one_of_a_fold(data: list[str], compat: str) -> None:
    for dataset, experiment, published in (("pascal", "ssl", [*range(5)] * 4), ("coco", "split1", [*range(20)])):
        test = evaluation(load(dataset, experiment, compat, *data))
        slots = published if compat == "published" else [*test.episodes.classes]
        assert [*map(test.slot, test.episodes.classes)] == slots


@BOTH
@pytest.mark.parametrize("dataset", ["pascal", "coco"])
def test_void_of_supports_is_padding_in_published_pascal_and_background_in_published_coco(
    data: list[str], dataset: str, compat: str
) -> None:
    config = load(dataset, "split0", compat, *data)
    for episode, side in ((supervised_episodes(config)[(0, 0)], SIZE), (evaluation(config).episodes[(0, 0)], CONTENT)):
        void = episode["support_masks"][:, :side, :side] == 255
        expected = void if (dataset, compat) == ("pascal", "published") else void & False
        assert void.any() == ((dataset, compat) != ("coco", "published"))
        assert torch.equal(episode["support_padding"][:, :side, :side], expected)
        assert not episode["query_padding"][:side, :side].any()


@BOTH
def test_training_images_have_the_size_of_the_test_and_published_their_own(data: list[str], compat: str) -> None:
    square = np.zeros((130, 130), dtype=np.uint8)
    square[60:70, 60:70] = 1
    transform = supervised_episodes(load("pascal", "split0", compat, *data)).transform
    view = transform(np.zeros((130, 130, 3), dtype=np.uint8), square, rng=random.Random(0))
    assert int((view.mask == 1).sum()) == (10 * 10 if compat == "published" else 5 * 5)


@BOTH
def test_images_with_novel_classes_stay_unless_they_are_dropped(data: list[str], compat: str) -> None:
    for overrides, rows in (([], [0, 1, 2, 3, 4]), (["DATA.drop_novel_images=true"], [3, 4])):
        episodes = supervised_episodes(load("pascal", "split0", compat, *data, *overrides))
        assert sorted(episodes[(0, index)]["query_index"] for index in range(len(episodes))) == rows


@BOTH
def test_k_is_one_value_for_making_and_for_using_pseudo_masks(tmp_path: Path, compat: str) -> None:
    images = write_images(tmp_path, 1)
    for dataset, k in (("pascal", 30), ("coco", 50)):
        config = load_config(
            dataset, "ssl_resnet50", ["weights=nowhere.pth", "Cluster.recipe=global", f"TRAIN.compat={compat}"]
        )
        assert manifest_settings(config, images)["cluster_num"] == k


@pytest.mark.parametrize(("compat", "images", "positions"), [("ours", 10, 3 * 4), ("published", 8, 4 * 4)])
def test_clusters_see_every_image_and_published_whole_groups_with_their_padding(
    tmp_path: Path, pool: ThreadPoolExecutor, compat: str, images: int, positions: int
) -> None:
    image_list = write_images(tmp_path, 10)
    config = load("pascal", "ssl", compat, "Cluster.cluster_size=64")
    with patch.object(cluster, "GROUP_IMAGES", 8):
        rows = [row for group in cluster.groups_of(10, cluster_settings(config)) for row in group]
    maps = ClusterRecipe(config, image_list, FeatureMaps(COLOUR, pool))._clustered_maps(rows)
    features = np.concatenate([features.reshape(3, -1).T for features in maps])
    is_padding = np.isclose(features, np.array([-0.4, -0.5, -0.6]) / 0.77**0.5, atol=1e-5).all(axis=1)
    assert (len(features), is_padding.sum()) == (images * positions, images * (positions - 3 * 4))


@pytest.mark.parametrize(("published", "brightest"), [(False, 128 / 255), (True, 128)])
def test_embeddings_are_of_values_up_to_1_and_published_up_to_255(
    pool: ThreadPoolExecutor, published: bool, brightest: float
) -> None:
    grey = np.full((48, 64, 3), 128, dtype=np.uint8)
    recipe = ClusterSegmenter(FeatureMaps(COLOUR, pool), np.eye(2, 3, dtype=np.float32), size=64, published=published)
    with patch.object(COLOUR, "forward", wraps=COLOUR.forward) as network:
        recipe.extract([PreparedImage(0, (48, 64), grey, grey, np.zeros((48, 64), dtype=np.int32))])
    for_clusters, for_embeddings = (float(call.args[0].max()) for call in network.mock_calls)
    assert [for_clusters, for_embeddings] == pytest.approx([128 / 255, brightest])


@pytest.mark.parametrize("word", ["compat=ours", "compat=published", "support_self_attention=false"])
def test_prototypes_are_of_attended_features_and_published_of_merged_ones(word: str) -> None:
    settings = NetworkSettings.configured(load("pascal", "ssl", "ours", *SMALL, f"TRAIN.{word}").TRAIN)
    model = FSSModel.from_settings(settings, backbone_weights=None).eval()
    merged: list[torch.Tensor] = []
    model.merge_support.register_forward_hook(lambda _, __, output: merged.append(output.flatten(2).mT[0]))
    with patch.object(model, "cluster", wraps=model.cluster) as clustering:
        model(*random_episode(batch=1))
    is_merged = (clustering.call_args.args[0][:, None] == merged[0]).all(dim=2).any(dim=1)
    assert not is_merged.any() if word == "compat=ours" else is_merged.all()


def build(data: list[str], folder: Path, compat: str, *overrides: str) -> Trainer:
    """Two epochs of two steps of unsupervised training; labelled episodes stand in for pseudo episodes."""
    run = [f"TRAIN.save_path={folder}", "TRAIN.epochs=2", "TRAIN.epoch_episodes=2", "TRAIN.batch_size=1", *SMALL]
    run.append("TRAIN.episodes=2")  # of the validation that the published code makes after every epoch
    episodes = supervised_episodes(load("pascal", "split0", compat, *data))
    return build_trainer(load("pascal", "ssl", compat, *data, *run, *overrides), episodes, {})


@BOTH
def test_fifteen_times_the_sgd_rate_is_applied_and_logged_and_that_of_adamw_is_constant(
    data: list[str], tmp_path: Path, messages: list[str], caplog: pytest.LogCaptureFixture, compat: str
) -> None:
    caplog.set_level("INFO", logger="unsupfss")
    applied: list[tuple[float, float]] = []
    trainer = build(data, tmp_path, compat, "TRAIN.print_freq=1", "TRAIN.warmup=false")
    sgd, adamw = trainer.optimizers.sgd.param_groups, trainer.optimizers.adamw.param_groups
    trainer.optimizers.sgd.register_step_post_hook(lambda *_: applied.append((sgd[0]["lr"], adamw[0]["lr"])))
    trainer.run()
    rates = [15 * 0.002 * (1 - iteration / 4) ** 0.9 for iteration in (1, 2, 3, 4)]
    assert applied == [(pytest.approx(rate), 1e-4) for rate in rates]
    logged = [message.split("lr sgd ")[1].split("  ")[0] for message in messages if "lr sgd" in message]
    assert logged == [f"{rate:.5f} adamw 0.00010" for rate in rates]


def test_adamw_is_saved_and_resumed(data: list[str], tmp_path: Path) -> None:
    settings = (data, tmp_path, "ours", "TRAIN.transformer_lr=0.003")
    trainer = build(*settings)
    trainer.run()
    saved, resumed = (run.optimizers.adamw.state_dict() for run in (trainer, build(*settings)))
    assert torch.equal(saved["state"][0]["exp_avg"], resumed["state"][0]["exp_avg"])
    assert saved["param_groups"][0]["lr"] == resumed["param_groups"][0]["lr"] == 0.003


@BOTH
def test_void_pixels_count_in_the_published_loss_alone(data: list[str], tmp_path: Path, compat: str) -> None:
    with patch("engine.trainer.dice_loss", wraps=dice_loss) as loss:
        build(data, tmp_path, compat).run()
    assert [call.kwargs["ignore_index"] for call in loss.mock_calls] == [None if compat == "published" else 255] * 4


@pytest.mark.parametrize("best", [False, True])
def test_the_last_checkpoint_is_kept_and_the_best_when_asked_for(data: list[str], tmp_path: Path, best: bool) -> None:
    """The published code keeps the best on labelled validation, in unsupervised training too."""
    trainer = build(data, tmp_path, "ours", f"TRAIN.best_on_validation={best}")
    trainer.validate = iter([{"miou": miou, "fb_iou": 0.5, "accuracy": 0.5} for miou in (0.5, 0.2)]).__next__
    trainer.run()
    epochs = {path.name: torch.load(path, weights_only=True)["epoch"] for path in tmp_path.glob("*.pth")}
    # The previous checkpoint is of the second epoch before its validation.
    assert epochs == {"latest.pth": 2, "previous.pth": 1, **({"best.pth": 1} if best else {})}
