"""Configuration files of a dataset made from a folder: one base and short experiments over it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prepare.folder.test_part import Fold
from util.config import load_config
from util.errors import UserError
from util.files import PROJECT, write_text
from util.logging import logger

_OTHER_COMMANDS = ("pascal", "coco", "shapes")
_UNSUPERVISED = "ssl_mobilenetv2"


@dataclass(frozen=True)
class DatasetFacts:
    """What the configuration of a dataset says about it; ``root`` and ``lists`` are absolute."""

    name: str
    root: Path
    lists: Path
    min_area: int
    classes: int | None


def check_name(name: str) -> None:
    """Raise ``UserError`` for what cannot be the name of a user's dataset."""
    if name in _OTHER_COMMANDS:
        raise UserError(f"--name {name}: belongs to `python -m prepare {name}`; choose another")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UserError(f"--name '{name}': use letters, digits, - and _ only")


def check_config(dataset: DatasetFacts) -> None:
    """Raise ``UserError`` for a configuration of this name that is about another dataset."""
    if dataset.root.name != dataset.name:
        logger.warning("masks/create.sh will look for a folder called %s, not %s", dataset.name, dataset.root)
    if not _experiment_file(dataset.name, _UNSUPERVISED).exists():
        return
    found = load_config(dataset.name, _UNSUPERVISED).DATA
    for key, value in _data_section(dataset).items():
        there = getattr(found, key)
        if key != "min_area" and there != (PROJECT / value if isinstance(there, Path) else value):
            folder = _config_folder(dataset.name)
            raise UserError(f"{folder}: DATA.{key} is {there} there and {value} here; delete the folder or rename it")


def write_config(dataset: DatasetFacts, folds: Sequence[Fold]) -> None:
    """Write ``config/NAME``: the base, the unsupervised experiment, and a supervised one for each fold.

    Files that exist are left as they are.
    """
    name = dataset.name
    _write(
        _config_folder(name) / "base.yaml",
        comments=[f"{name}: images of our own (python -m prepare folder)."],
        bases=["../base.yaml"],
        sections={"DATA": _data_section(dataset)},
    )
    _write_experiment(
        name,
        _UNSUPERVISED,
        split=5,
        comments=[
            f"Unsupervised meta-training on {name}: MobileNet-V2 at 257 pixels, no label is read.",
            f"  bash masks/create.sh {_portable(dataset.root.parent)} {name} experiment={_UNSUPERVISED}",
            f"  bash train.sh {name} {_UNSUPERVISED}",
        ],
    )
    for fold in folds:
        experiment = f"split{fold.number}_mobilenetv2"
        _write_experiment(
            name,
            experiment,
            split=fold.number,
            comments=[
                f"Supervised meta-training on {name} without classes {fold.test[0]} to {fold.test[-1]}.",
                f"  bash train.sh {name} {experiment} TRAIN.weight=exp/{name}/{_UNSUPERVISED}/latest.pth",
                f"  bash test.sh {name} {experiment}",
            ],
        )


def _config_folder(name: str) -> Path:
    return PROJECT / "config" / name


def _experiment_file(name: str, experiment: str) -> Path:
    return _config_folder(name) / f"{name}_{experiment}.yaml"


def _data_section(dataset: DatasetFacts) -> dict[str, Any]:
    section: dict[str, Any] = {
        "data_root": _portable(dataset.root),
        "train_list": _portable(dataset.lists / "train.txt"),
        "val_list": _portable(dataset.lists / "val.txt"),
        "min_area": dataset.min_area,
    }
    return section if dataset.classes is None else {**section, "classes": dataset.classes}


def _portable(path: Path) -> str:
    """Relative to the project where the path lies in it: what paths in a YAML file start at."""
    return (path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path).as_posix()


def _write_experiment(name: str, experiment: str, *, split: int, comments: list[str]) -> None:
    _write(
        _experiment_file(name, experiment),
        comments=comments,
        bases=["base.yaml", "../mobilenetv2.yaml"],
        sections={"TRAIN": {"split": split}},
    )


def _write(path: Path, *, comments: list[str], bases: list[str], sections: dict[str, Any]) -> None:
    if path.exists():
        logger.info("%s: left as it is", path)
        return
    lines = [*(f"# {comment}" for comment in comments), f"base: [{', '.join(bases)}]"]
    write_text(path, "\n".join(lines) + "\n" + yaml.safe_dump(sections, sort_keys=False, allow_unicode=True))
    logger.info("%s: written", path)
