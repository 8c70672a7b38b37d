"""What the pseudo masks of a command line are made with: its configuration, and what of that the masks depend on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from episodes.lists import ImageList
from masks.cluster import ClusterSettings
from masks.objectness import BACKGROUND
from masks.photographs import SuperpixelSettings
from masks.regions import RegionFilter
from util.config import experiments, load_config
from util.errors import UserError
from util.files import digest_file
from util.schema import Config

_FOLDERS = {"coco": "COCO2014"}
_DEFAULT_EXPERIMENT = "ssl_resnet50"
# For a user's dataset that has no experiment's file: the family for two CPU cores.
_DEFAULT_EXPERIMENT_OF_OWN_IMAGES = "ssl_mobilenetv2"
_PROJECT_DATASETS = ("pascal", "coco", "shapes")
_RESNETS = ("moco", "simclr")
_PUBLISHED_STRIDE = 32
_FINE_STRIDE = 8
# Positions that the longer side must have for clusters over all images: what 473 pixels have at stride 32.
_POSITIONS = 15


def choose_config(root: Path, dataset: str, settings: list[str]) -> Config:
    """The configuration that the words of the command line ask for. Raises ``UserError``."""
    given = dict(word.split("=", 1) for word in settings if "=" in word)
    overrides = [word for word in settings if not word.startswith("experiment=")]
    data_root = root / _FOLDERS.get(dataset, dataset)
    extractor = given.get("extractor", given.get("Cluster.extractor"))
    experiment = given.get("experiment") or _default_experiment(dataset, extractor)
    config = load_config(dataset, experiment, [f"DATA.data_root={data_root}", *overrides])
    if not config.DATA.data_root.is_dir():
        raise UserError(f"{config.DATA.data_root}: folder not found; ROOT is the folder that holds {data_root.name}/")
    return config


def output_stride(config: Config) -> int:
    """The stride of a convolutional extractor's features, in pixels of the resized image, unless ``Cluster.stride``.

    Objects need many positions: 8. Clusters are taken at 32 as published, unless the images are so small that their
    longer side would have fewer positions than there.
    """
    if config.Cluster.recipe == "objects":
        return _FINE_STRIDE
    if config.Cluster.extractor in _RESNETS:
        return _PUBLISHED_STRIDE
    fitting = [stride for stride in (32, 16) if math.ceil(config.Cluster.cluster_size / stride) >= _POSITIONS]
    return fitting[0] if fitting else _FINE_STRIDE


def extractor_stage(config: Config) -> int:
    """The stage of the extractor whose features are used, unless ``Cluster.stage``.

    Clusters are made of the last; the one before tells objects better from what surrounds them (docs/recipe.md).
    """
    if config.Cluster.stage is not None:
        return config.Cluster.stage
    return -2 if config.Cluster.recipe == "objects" else -1


def manifest_settings(config: Config, images: ImageList) -> dict[str, Any]:
    """Everything the pseudo masks of ``config`` depend on, JSON values only."""
    cluster = config.Cluster
    weights = cluster.extractor_weights
    return {
        "recipe": cluster.recipe,
        "extractor": cluster.extractor,
        "extractor_normalize": cluster.extractor_normalize,
        "stage": cluster.stage,
        "stride": cluster.stride,
        "flip": cluster.flip,
        "scales": cluster.scales,
        "weights_digest": digest_file(weights) if weights is not None and weights.is_file() else str(weights),
        "object_share": cluster.object_share,
        "cluster_num": cluster.cluster_num,
        "algorithm": cluster.algorithm,
        "memory_gb": cluster.memory_gb,
        "seed": cluster.seed,
        "cluster_size": cluster.cluster_size,
        "assign_size": cluster.assign_size,
        "cluster_images": cluster.cluster_images,
        "superpixel": {
            "scale": cluster.superpixel_scale,
            "sigma": cluster.superpixel_sigma,
            "min_size": cluster.superpixel_min_size,
        },
        "region_rule": cluster.region_rule,
        "empty_share": cluster.empty_share,
        "border_share": cluster.border_share,
        "image_share": cluster.image_share,
        "min_area": config.DATA.min_area,
        "compat": config.TRAIN.compat,
        "list_digest": images.digest,
    }


def cluster_settings(config: Config) -> ClusterSettings:
    """How ``Cluster`` asks for the centroids of all images."""
    cluster = config.Cluster
    return ClusterSettings(
        cluster_num=cluster.cluster_num,
        seed=cluster.seed,
        algorithm=cluster.algorithm,
        images=cluster.cluster_images,
        memory_gb=cluster.memory_gb,
        drop_incomplete=config.published,
    )


def superpixel_settings(config: Config) -> SuperpixelSettings:
    """The superpixels that ``Cluster`` asks for."""
    cluster = config.Cluster
    return SuperpixelSettings(cluster.superpixel_scale, cluster.superpixel_sigma, cluster.superpixel_min_size)


def region_filter(config: Config) -> RegionFilter:
    """What ``DATA`` and ``Cluster`` say may be an object."""
    cluster = config.Cluster
    return RegionFilter(
        min_area=config.DATA.min_area,
        rule=cluster.region_rule,
        empty_share=cluster.empty_share,
        border_share=cluster.border_share,
        image_share=cluster.image_share,
        background=BACKGROUND if cluster.recipe == "objects" else None,
    )


def _default_experiment(dataset: str, extractor: str | None) -> str:
    """The unsupervised experiment that has this extractor; all are candidates where none has it.

    Those with a file of their own come first. Among several it is ``ssl_resnet50``, or for a user's dataset without
    such files ``ssl_mobilenetv2``, else the first.
    """
    names = [name for name in experiments(dataset) if name.startswith("ssl_")]
    fitting = [name for name in names if load_config(dataset, name).Cluster.extractor == extractor] or names
    own = [name for name in experiments(dataset, with_own_file=True) if name in fitting]
    defaults = [_DEFAULT_EXPERIMENT]
    if not own and dataset not in _PROJECT_DATASETS:
        defaults.insert(0, _DEFAULT_EXPERIMENT_OF_OWN_IMAGES)
    candidates = own or fitting
    return next((name for name in [*defaults, *candidates] if name in candidates), _DEFAULT_EXPERIMENT)
