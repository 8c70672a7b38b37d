"""From a configuration to pseudo masks: only this file, the recipes and the commands know its keys.

The extractor and filter that it describes, and every setting that the masks depend on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from episodes.lists import ImageList
from episodes.pseudo_files import VERSION, PseudoFiles
from masks.recipes import find_recipe
from masks.regions import RegionFilter
from model.frozen.extractors import Extractor, build_extractor, extractor_file
from util.config.schema import Config
from util.config.words import WEIGHTS_FROM_TIMM
from util.files import digest_file
from util.logging import logger

# Keys of Cluster that the masks of every recipe depend on; a recipe names its own.
_COMMON_KEYS = (
    *("recipe", "extractor", "extractor_normalize", "stage", "stride", "flip", "scales", "seed", "assign_size"),
    *("region_rule", "empty_share", "border_share", "image_share"),
)


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
    if weights == WEIGHTS_FROM_TIMM:
        return str(weights)
    return digest_file(weights) if weights is not None and weights.is_file() else None
