"""What a pseudo folder records of the configuration, and that training refuses masks made with anything else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import util.config
from episodes.lists import ImageList
from episodes.pseudo_files import PseudoFiles
from masks.build import check_pseudo_masks, manifest_settings
from masks.command_line import choose_config
from util.config import load_config
from util.errors import UserError
from util.files import PROJECT, write_json

# Any file has a size.
IMAGES = ImageList(Path(__file__).parent, (Path(__file__).name,), (None,), "digest", Path("list.txt"))
# Every setting that masks of both recipes depend on: an override that changes it, and the manifest's key.
COMMON = [
    ("Cluster.extractor=moco", "extractor"),
    ("Cluster.extractor_normalize=none", "extractor_normalize"),
    ("Cluster.stage=1", "stage"),
    ("Cluster.stride=16", "stride"),
    ("Cluster.flip=true", "flip"),
    ("Cluster.scales=[2.0]", "scales"),
    ("Cluster.seed=1", "seed"),
    ("Cluster.assign_size=333", "assign_size"),
    ("Cluster.cluster_images=7", "cluster_images"),
    ("Cluster.superpixel_scale=50", "superpixel.scale"),
    ("Cluster.superpixel_sigma=0.5", "superpixel.sigma"),
    ("Cluster.superpixel_min_size=100", "superpixel.min_size"),
    ("Cluster.region_rule=span", "region_rule"),
    ("Cluster.empty_share=0.5", "empty_share"),
    ("Cluster.border_share=0.5", "border_share"),
    ("Cluster.image_share=0.5", "image_share"),
    ("DATA.min_area=1", "min_area"),
]
OF_CLUSTERS = [
    ("Cluster.cluster_num=7", "cluster_num"),
    ("Cluster.algorithm=spherical", "algorithm"),
    ("Cluster.memory_gb=1", "memory_gb"),
    ("Cluster.cluster_size=333", "cluster_size"),
    ("Cluster.recipe=objects", "recipe"),
]
OF_OBJECTS = [("Cluster.object_share=0.5", "object_share"), ("Cluster.recipe=global", "recipe")]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "weights.pth").write_bytes(b"the weights")
    return tmp_path / "weights.pth"


def settings(recipe: str, weights: Path, folder: Path) -> list[str]:
    return [f"Cluster.recipe={recipe}", f"weights={weights}", f"Cluster.pseudo_folder={folder}"]


def record(overrides: list[str]) -> None:
    """Write the manifest of masks that were made with these overrides."""
    config = load_config("pascal", "ssl_mobilenetv2", overrides)
    afterwards = {"file_sizes_digest": IMAGES.file_sizes_digest()}
    write_json(PseudoFiles(config.pseudo_folder).manifest, {**manifest_settings(config, IMAGES), **afterwards})


def check(overrides: list[str], images: ImageList = IMAGES) -> None:
    check_pseudo_masks(load_config("pascal", "ssl_mobilenetv2", overrides), images)


@pytest.mark.parametrize("recipe", ["global", "objects"])
def test_training_accepts_masks_made_with_its_own_settings(recipe: str, weights: Path, tmp_path: Path) -> None:
    record(settings(recipe, weights, tmp_path))
    check(settings(recipe, weights, tmp_path))


@pytest.mark.parametrize(
    ("recipe", "override", "key"),
    [
        *(("global", *case) for case in COMMON + OF_CLUSTERS),
        *(("objects", *case) for case in COMMON + OF_OBJECTS),
    ],
)
def test_training_refuses_masks_made_with_another_value_of_each_key(
    recipe: str, override: str, key: str, weights: Path, tmp_path: Path
) -> None:
    record(settings(recipe, weights, tmp_path))
    with pytest.raises(UserError, match=rf"^[^\n]*manifest\.json does not fit[^\n]*\b{key} is [^\n]*$"):
        check([*settings(recipe, weights, tmp_path), override])


def test_training_as_published_refuses_our_masks_and_the_other_way_round(weights: Path, tmp_path: Path) -> None:
    # All that `compat` implies for the masks, but for what it changes without a key of its own.
    same = ["Cluster.region_rule=border", "Cluster.neighbours=20", "Cluster.empty_share=0.01"]
    ours = [*settings("global", weights, tmp_path), *same]
    for recorded, expected in ((ours, [*ours, "TRAIN.compat=published"]), ([*ours, "TRAIN.compat=published"], ours)):
        record(recorded)
        with pytest.raises(UserError, match=r"does not fit the configuration: compat is \w+ there, \w+ expected;"):
            check(expected)


def test_other_weights_are_refused_and_absent_ones_not_compared(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(settings("objects", weights, tmp_path))
    weights.write_bytes(b"other weights")
    with pytest.raises(UserError, match="weights_digest is "):
        check(settings("objects", weights, tmp_path))
    weights.unlink()
    caplog.set_level("INFO", logger="unsupfss")
    check(settings("objects", weights, tmp_path))


def test_other_images_and_another_version_are_refused(weights: Path, tmp_path: Path) -> None:
    overrides = settings("objects", weights, tmp_path)
    record(overrides)
    other = ImageList(IMAGES.root, ("conftest.py",), (None,), "other digest", Path("list.txt"))
    with pytest.raises(UserError, match="list_digest is digest there, other digest expected; file_sizes_digest is "):
        check(overrides, other)
    manifest = PseudoFiles(tmp_path).manifest
    write_json(manifest, {**PseudoFiles(tmp_path).read_manifest(), "version": 2})
    with pytest.raises(UserError, match="version is 2 there, 3 expected"):
        check(overrides)


def test_an_unknown_recipe_is_one_line(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^Cluster\.recipe=fancy: unknown recipe; expected one of global, objects$"):
        check(settings("fancy", weights, tmp_path))


@pytest.fixture
def broken_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with data and an unsupervised experiment of pascal whose file has a mistake."""
    shutil.copytree(PROJECT / "config", tmp_path / "config")
    (tmp_path / "pascal").mkdir()
    monkeypatch.setattr(util.config, "PROJECT", tmp_path)
    file = tmp_path / "config" / "pascal" / "pascal_ssl_mine.yaml"
    file.write_text("base: [base.yaml]\nTRAIN: {epoch: 3}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "experiment"),
    [(None, "ssl_resnet50"), ("extractor=moco", "ssl_resnet50"), ("extractor=timm:mobilenetv2_100", "ssl_mobilenetv2")],
)
def test_a_broken_experiment_breaks_no_other(
    broken_experiment: Path, messages: list[str], setting: str | None, experiment: str
) -> None:
    config = choose_config(broken_experiment, "pascal", [setting] if setting else [])
    assert config.experiment == experiment
    problem = "configuration pascal ssl_mine: unknown key 'TRAIN.epoch' (did you mean TRAIN.epochs?)"
    assert messages == ([f"left out: {problem}"] if setting else [])
    with pytest.raises(UserError, match=r"unknown key 'TRAIN\.epoch'"):
        choose_config(broken_experiment, "pascal", ["experiment=ssl_mine"])


def test_a_dataset_without_an_unsupervised_experiment(broken_experiment: Path) -> None:
    folder = broken_experiment / "config" / "birds"
    folder.mkdir()
    (folder / "birds_mine.yaml").write_text("base: [../pascal/base.yaml]\n")
    (broken_experiment / "birds").mkdir()
    with pytest.raises(
        UserError, match="config/birds/: no unsupervised experiment here; choose one with experiment=NAME"
    ):
        choose_config(broken_experiment, "birds", [])
    assert choose_config(broken_experiment, "birds", ["experiment=mine"]).experiment == "mine"
