"""From a configuration to pseudo masks: only this file, the recipes and the commands know its keys.

Which configuration a command line selects, the extractor and filter that it describes, and every setting that the masks
depend on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from episodes.lists import ImageList
from episodes.protocols import data_folder, protocol
from episodes.pseudo_files import VERSION, PseudoFiles
from masks.recipes import find_recipe
from masks.regions import RegionFilter
from model.frozen.extractors import Extractor, build_extractor, extractor_file
from model.frozen.timm_networks import FROM_TIMM
from util.config import experiments, load_config
from util.config.schema import Config
from util.errors import UserError
from util.files import digest_file
from util.logging import logger

# Keys of Cluster that the masks of every recipe depend on; a recipe names its own.
_COMMON_KEYS = (
    *("recipe", "extractor", "extractor_normalize", "stage", "stride", "flip", "scales", "seed", "assign_size"),
    *("region_rule", "empty_share", "border_share", "image_share"),
)


def choose_config(root: Path, dataset: str, settings: list[str]) -> Config:
    """The configuration that the arguments of a command line select. Raises ``UserError``."""
    values = dict(setting.split("=", 1) for setting in settings if "=" in setting)
    overrides = [setting for setting in settings if not setting.startswith("experiment=")]
    data_root = root / data_folder(dataset)
    extractor = values.get("extractor", values.get("Cluster.extractor"))
    experiment = values.get("experiment") or _default_experiment(dataset, extractor)
    config = load_config(dataset, experiment, [f"DATA.data_root={data_root}", *overrides])
    if not config.DATA.data_root.is_dir():
        raise UserError(f"{config.DATA.data_root}: folder not found; ROOT is the folder that holds {data_root.name}/")
    return config


def configured_extractor(config: Config) -> Extractor:
    """The extractor with its weights, on the CPU. Raises ``UserError``."""
    cluster = config.Cluster
    recipe = find_recipe(cluster.recipe)
    return build_extractor(
        cluster.extractor,
        weights=_extractor_weights(config),
        normalize=cluster.extractor_normalize,
        stage=recipe.stage if cluster.stage is None else cluster.stage,
        stride=cluster.stride,
        output_stride=recipe.stride(cluster),
        flip=cluster.flip,
        scales=cluster.scales,
    )


def region_filter(config: Config) -> RegionFilter:
    """Which regions of a pseudo mask may be objects."""
    cluster = config.Cluster
    return RegionFilter(
        min_area=config.DATA.min_area,
        rule=cluster.region_rule,
        empty_share=cluster.empty_share,
        border_share=cluster.border_share,
        image_share=cluster.image_share,
        background=find_recipe(cluster.recipe).background,
    )


def manifest_settings(config: Config, images: ImageList) -> dict[str, Any]:
    """Every setting that the pseudo masks of ``config`` depend on, as the manifest holds it: JSON values only.

    ``weights_digest`` is None where the file of the extractor's weights is not there.
    """
    cluster = config.Cluster
    keys = (*_COMMON_KEYS, *find_recipe(cluster.recipe).keys)
    return {
        "version": VERSION,
        **{key: getattr(cluster, key) for key in keys},
        "weights_digest": _weights_digest(_extractor_weights(config)),
        "superpixel": {
            "scale": cluster.superpixel_scale,
            "sigma": cluster.superpixel_sigma,
            "min_size": cluster.superpixel_min_size,
        },
        "min_area": config.DATA.min_area,
        "compat": config.TRAIN.compat,
        "list_digest": images.digest,
    }


def check_pseudo_masks(config: Config, images: ImageList) -> None:
    """Refuse to train on pseudo masks that ``config`` would not make from ``images``.

    Extractor weights are compared where their file is there: masks may be made on another machine. Raises ``UserError``
    that names every key that differs, or states that the masks are incomplete.
    """
    settings = {**manifest_settings(config, images), "file_sizes_digest": images.file_sizes_digest()}
    if settings["weights_digest"] is None:
        del settings["weights_digest"]
        weights = config.Cluster.extractor_weights or f"The file of {config.Cluster.extractor}"
        logger.info("%s is not here: whether it made the pseudo masks is not checked", weights)
    PseudoFiles(config.pseudo_folder).check_manifest(settings)


def _extractor_weights(config: Config) -> Path | None:
    """The configured file, else the one that the extractor has by itself; None where that is not there."""
    return config.Cluster.extractor_weights or extractor_file(config.Cluster.extractor)


def _weights_digest(weights: Path | None) -> str | None:
    if weights == FROM_TIMM:
        return str(weights)
    return digest_file(weights) if weights is not None and weights.is_file() else None


def _default_experiment(dataset: str, extractor: str | None) -> str:
    """The unsupervised experiment that has this extractor; any of them where none has it.

    Among several, those with a file of their own come first, and of these the dataset's default.
    """
    names = [name for name in experiments(dataset) if name.startswith("ssl_")]
    if not names:
        raise UserError(f"config/{dataset}/: no unsupervised experiment here; choose one with experiment=NAME")
    fitting = [name for name in names if extractor and _has_extractor(dataset, name, extractor)] or names
    candidates = [name for name in experiments(dataset, with_own_file=True) if name in fitting] or fitting
    # ssl_resnet101 learns from the masks of ssl_resnet50.
    preferred = (protocol(dataset).default_experiment, "ssl_resnet50", *candidates)
    return next(name for name in preferred if name in candidates)


def _has_extractor(dataset: str, experiment: str, extractor: str) -> bool:
    """False with a line in the log for an experiment whose file has a mistake: another one may be meant."""
    try:
        return load_config(dataset, experiment).Cluster.extractor == extractor
    except UserError as error:
        logger.warning("left out: %s", error)
        return False
