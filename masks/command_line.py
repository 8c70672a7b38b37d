"""Which configuration ``ROOT DATASET [key=value ...]`` selects, the words of ``masks.create`` and ``masks.report``."""

from __future__ import annotations

from pathlib import Path

from episodes.protocols import data_folder, protocol
from util.config import experiments, load_config
from util.config.schema import Config
from util.errors import UserError
from util.logging import logger


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
