"""Each "Adding a ..." list of docs/architecture.md, followed with a small example."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

import engine.trainer
import masks.create
import train
from engine.metrics import EpisodeMetrics, EpisodeScore
from episodes.build import evaluation, training_episodes, training_images
from episodes.lists import write_list
from masks.command_line import choose_config
from masks.prepared_images import PreparedImage
from masks.pseudo_masks import PseudoMasks
from masks.recipes import RECIPES
from masks.recipes.recipe import Learnt, Maps, Recipe, Segmentation
from model import load_model
from model.frozen import extractors
from model.frozen.extractors import build_extractor
from tests.masks.small_images import EXTRACTOR, draw_image, write_extractor
from tests.model.networks import random_episode
from util.array_files import ArrayKind
from util.config import load_config
from util.config.schema import ClusterSection
from util.errors import UserError
from util.files import PROJECT
from util.images import read_image, write_image, write_label

IMAGES, CLASSES = 16, 4
DATASET = """
DATA:
  data_root: data/mine
  train_list: lists/mine/train.txt
  val_list: lists/mine/train.txt
  classes: 4
  min_area: 300
"""
# Its backbone is a small vision transformer, on patches of 16 pixels.
FAMILY = """
Cluster:
  extractor: timm:test_efficientnet
  extractor_weights: initmodel/extractor.pth
  assign_size: 64
TRAIN:
  backbone: test_vit
  backbone_weights: initmodel/backbone.pth
  mid_stages: [-2]
  high_stage: -1
  hidden_dims: 16
  train_h: 65
  train_w: 65
  val_size: 65
  batch_size: 4
  epoch_episodes: 8
  workers: 0
  evaluate: false
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder with the configurations that all datasets share, a dataset ``mine`` and a family ``tiny``."""
    project = tmp_path_factory.mktemp("project")
    (project / "config" / "mine").mkdir(parents=True)
    for path in (PROJECT / "config").glob("*.yaml"):
        shutil.copy(path, project / "config")
    (project / "config" / "mine" / "base.yaml").write_text(DATASET)
    (project / "config" / "tiny.yaml").write_text(FAMILY)
    (project / "initmodel").mkdir()
    write_extractor(project / "initmodel" / "extractor.pth")
    write_extractor(project / "initmodel" / "backbone.pth", "test_vit")
    names = [(f"JPEGImages/{number}.jpg", f"SegmentationClassAug/{number}.png") for number in range(IMAGES)]
    for number, (image, label) in enumerate(names):
        truth = np.zeros((120, 160), dtype=np.uint8)
        truth[30:90, 50:110] = 1 + number % CLASSES
        write_image(project / "data" / "mine" / image, draw_image(number))
        write_label(project / "data" / "mine" / label, truth)
    write_list(project / "lists" / "mine" / "train.txt", names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("util.config.PROJECT", project)
        yield project


@pytest.fixture(scope="module")
def pseudo_masks(project: Path) -> Path:
    """Pseudo masks of ``mine`` for ``ssl_tiny``."""
    masks.create.main([str(project / "data"), "mine", "experiment=ssl_tiny"])
    return load_config("mine", "ssl_tiny").pseudo_folder


def test_adding_a_dataset(project: Path) -> None:
    """docs/architecture.md, "Adding a dataset"."""
    config = load_config("mine", "ssl_mobilenetv2")
    assert config.DATA.data_root == project / "data" / "mine"
    assert config.TRAIN.backbone == "mobilenetv2_100" and config.unsupervised
    assert len(training_images(config)) == IMAGES
    for fold in range(4):
        config = load_config("mine", f"split{fold}_mobilenetv2", ["TRAIN.episodes=5"])
        assert config.TRAIN.split == fold and not config.unsupervised
        training, test = training_episodes(config, training_images(config)), evaluation(config).episodes
        assert {training[0, index]["class_id"] for index in range(12)} == set(range(1, CLASSES + 1)) - {fold + 1}
        assert {test[0, index]["class_id"] for index in range(5)} == {fold + 1}


def test_adding_an_extractor(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/architecture.md, "Adding an extractor": any timm model by name, and a row for a name of its own."""
    weights = project / "initmodel" / "extractor.pth"
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    features = build_extractor(f"timm:{EXTRACTOR}", weights=weights, normalize="none")(images)
    plain = timm.create_model(EXTRACTOR, features_only=True, out_indices=[-1]).eval()
    plain.load_state_dict(torch.load(weights), strict=False)
    with torch.inference_mode():
        torch.testing.assert_close(features, plain(images)[0], rtol=1e-3, atol=1e-4)

    (families,) = [value for value in vars(extractors).values() if isinstance(value, dict) and "moco" in value]
    monkeypatch.setitem(families, "mine", type(families["moco"])(EXTRACTOR, "none"))
    assert torch.equal(build_extractor("mine", weights=weights)(images), features)


class Middle(Recipe):
    """The object is the middle of every image; what it learns is the width of the border around it."""

    learns: ClassVar[Mapping[str, ArrayKind]] = {"border": ("float64", 1)}
    stage = -1
    keys = ("object_share",)
    background = 0

    @staticmethod
    def stride(cluster: ClusterSection) -> int:
        return 32

    def summary(self) -> str:
        return "the width of the border"

    def learning_bytes(self) -> float:
        return 0

    def learn(self, folder: Path) -> dict[str, np.ndarray]:
        return {"border": np.array([(1 - self.config.Cluster.object_share**0.5) / 2])}

    def segmenter(self, learnt: Learnt) -> MiddleSegmenter:
        return MiddleSegmenter(self, float(learnt["border"][0]))


class MiddleSegmenter:
    """Cuts images as ``Middle`` describes."""

    def __init__(self, recipe: Middle, border: float) -> None:
        self.recipe, self.border = recipe, border

    def extract(self, images: Sequence[PreparedImage]) -> list[Maps]:
        return [(features,) for features in self.recipe.features([image.resized for image in images])]

    def segment(self, image: PreparedImage, maps: Maps) -> Segmentation:
        return Segmentation(middle(image.resized.shape[:2], self.border), maps[0] / np.linalg.norm(maps[0], axis=0))


def middle(shape: Sequence[int], border: float) -> np.ndarray:
    """(H, W) uint8: 1, and 0 in a border of this share of each side."""
    mask = np.zeros(shape, dtype=np.uint8)
    rows, columns = (round(side * border) for side in shape)
    mask[rows : shape[0] - rows, columns : shape[1] - columns] = 1
    return mask


def test_adding_a_recipe(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/architecture.md, "Adding a recipe": a class and a row; the folder is written, read and trained on as any."""
    monkeypatch.setitem(RECIPES, "middle", Middle)
    settings = ["Cluster.recipe=middle", "Cluster.object_share=0.36", f"Cluster.pseudo_folder={tmp_path / 'pseudo'}"]
    command_line = [str(project / "data"), "mine", "experiment=ssl_tiny", *settings]
    masks.create.main(command_line)

    pseudo = PseudoMasks.load(tmp_path / "pseudo")
    assert (pseudo.manifest["recipe"], pseudo.manifest["object_share"]) == ("middle", 0.36)
    for row, image in enumerate(pseudo.images):
        assert pseudo.kept[row].tolist() == [1]
        expected = middle(read_image(project / "data" / "mine" / image).shape[:2], 0.2)
        assert (pseudo.read(row) != expected).mean() < 0.05  # it was cut at another size

    config = choose_config(project / "data", "mine", command_line[2:])
    episodes = training_episodes(config, training_images(config))
    assert len(episodes) == IMAGES
    assert {episodes[0, index]["class_id"] for index in range(IMAGES)} == {1}
    assert set(episodes[0, 0]["query_mask"].unique().tolist()) <= {0, 1, 255}
    with pytest.raises(UserError, match="object_share"):
        masks.create.main([*command_line, "Cluster.object_share=0.5"])


def test_adding_a_backbone(project: Path, pseudo_masks: Path, tmp_path: Path) -> None:
    """docs/architecture.md, "Adding a backbone": any timm model by its name, and a file that makes it a family."""
    assert pseudo_masks == project / "data/mine/mine_test_efficientnet_pseudo"
    assert [load_config("mine", f"split{fold}_tiny").TRAIN.split for fold in range(4)] == [0, 1, 2, 3]
    train.main(["mine", "ssl_tiny", "TRAIN.epochs=1", f"TRAIN.save_path={tmp_path}"])
    model = load_model(tmp_path / "latest.pth")
    with torch.inference_mode():
        logits = model(*random_episode())
    assert logits.shape == (2, 2, 65, 65) and logits.isfinite().all()
    (kernel,) = [value for name, value in model.state_dict().items() if name.endswith("patch_embed.proj.weight")]
    assert torch.equal(kernel, torch.load(project / "initmodel" / "backbone.pth")["patch_embed.proj.weight"])


def test_adding_a_loss(project: Path, pseudo_masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/architecture.md, "Adding a loss": ``train_one_epoch`` takes any function of logits and targets."""
    values: list[float] = []

    def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
        loss = F.cross_entropy(logits.float(), target, ignore_index=255)
        values.append(loss.item())
        return loss

    train_one_epoch = engine.trainer.train_one_epoch

    def with_cross_entropy(*arguments: Any, **keywords: Any) -> Any:
        return train_one_epoch(*arguments, **{**keywords, "loss": cross_entropy})

    monkeypatch.setattr(engine.trainer, "train_one_epoch", with_cross_entropy)
    settings = ["TRAIN.base_lr=0.05", "TRAIN.warmup=false", "TRAIN.epochs=6", f"TRAIN.save_path={tmp_path}"]
    train.main(["mine", "ssl_tiny", *settings])
    epochs = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    means = np.reshape(values, (6, 2)).mean(axis=1)
    assert [epoch["loss"] for epoch in epochs] == pytest.approx(means, abs=1e-5)
    assert means[-1] < 0.9 * means[0]


def test_adding_a_metric() -> None:
    """docs/architecture.md, "Adding a metric": the Dice score of each episode, from the areas that are kept."""

    def dice(scores: Sequence[EpisodeScore]) -> float:
        areas = [score.areas for score in scores]
        return float(np.mean([2 * area.overlap / (area.predicted + area.true) for area in areas]))

    rng = np.random.default_rng(0)
    metrics, expected = EpisodeMetrics(), []
    for episode in range(5):
        prediction, target = rng.integers(0, 2, (9, 7)), rng.choice([0, 1, 255], (9, 7))
        metrics.add(1 + episode % 2, f"{episode}.jpg", torch.from_numpy(prediction), torch.from_numpy(target))
        pairs = [(p, t) for p, t in zip(prediction.flat, target.flat, strict=True) if t != 255]
        both = sum(p == t == 1 for p, t in pairs)
        expected.append(2 * both / (sum(p == 1 for p, _ in pairs) + sum(t == 1 for _, t in pairs)))
    assert dice(metrics.scores) == pytest.approx(np.mean(expected))
