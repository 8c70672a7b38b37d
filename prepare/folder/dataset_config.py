"""The configuration file of a dataset made from a folder; ``util.config.experiments`` composes its experiments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from episodes.protocols import PROTOCOLS
from prepare.folder.test_part import Fold
from util.config import load_config
from util.errors import UserError
from util.files import PROJECT, write_text
from util.logging import logger

_FAMILY = "mobilenetv2"


@dataclass(frozen=True)
class DatasetFacts:
    """What the configuration of a dataset states about it; ``root`` and ``lists`` are absolute."""

    name: str
    root: Path
    lists: Path
    min_area: int
    classes: int | None


def check_name(name: str) -> None:
    """Raise ``UserError`` for what cannot be the name of a user's dataset."""
    if name in PROTOCOLS:
        raise UserError(f"--name {name}: belongs to `python -m prepare {name}`; choose another")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UserError(f"--name '{name}': use letters, digits, - and _ only")


def check_config(dataset: DatasetFacts) -> None:
    """Raise ``UserError`` for a configuration of this name that is about another dataset."""
    if dataset.root.name != dataset.name:
        logger.warning("masks/create.sh will look for a folder called %s, not %s", dataset.name, dataset.root)
    if not _config_file(dataset.name).exists() or _is_without_masks(dataset):
        return
    configured = load_config(dataset.name, f"ssl_{_FAMILY}").DATA
    for key, value in _data_section(dataset).items():
        actual = getattr(configured, key)
        if key != "min_area" and actual != (PROJECT / value if isinstance(actual, Path) else value):
            folder = _config_file(dataset.name).parent
            raise UserError(f"{folder}: DATA.{key} is {actual} there and {value} here; delete the folder or rename it")


def write_config(dataset: DatasetFacts, folds: Sequence[Fold]) -> None:
    """Write ``config/NAME/base.yaml``, which makes the experiments of all families known.

    A file that exists is left as it is, unless it is what was written before there were masks. ``folds`` are those that
    can be trained and tested; its header names them.
    """
    path = _config_file(dataset.name)
    if path.exists() and (dataset.classes is None or not _is_without_masks(dataset)):
        logger.info("%s: left as it is", path)
        return
    write_text(path, _content(dataset, folds))
    logger.info("%s: written", path)


def _is_without_masks(dataset: DatasetFacts) -> bool:
    """Whether there is a configuration as it was written before there were masks."""
    path = _config_file(dataset.name)
    return path.is_file() and path.read_bytes().decode(errors="replace") == _content(
        replace(dataset, classes=None), folds=[]
    )


def _content(dataset: DatasetFacts, folds: Sequence[Fold]) -> str:
    header = "".join(f"# {line}\n" for line in _header(dataset, folds))
    data = yaml.safe_dump({"DATA": _data_section(dataset)}, sort_keys=False, allow_unicode=True)
    return f"{header}base: [../base.yaml]\n{data}"


def _config_file(name: str) -> Path:
    return PROJECT / "config" / name / "base.yaml"


def _header(dataset: DatasetFacts, folds: Sequence[Fold]) -> list[str]:
    name = dataset.name
    checkpoint = f"exp/{name}/ssl_{_FAMILY}/latest.pth"
    lines = [
        f"{name}: your own images (python -m prepare folder). Pseudo masks, unsupervised training, and its use:",
        f"  bash masks/create.sh {_portable(dataset.root.parent)} {name}",
        f"  bash train.sh {name} ssl_{_FAMILY}",
    ]
    joint = [
        "With the masks of all classes besides:",
        f"  bash train.sh {name} joint_{_FAMILY}",
    ]
    if not folds:
        return [
            *lines,
            f"  .venv/bin/python predict.py --checkpoint {checkpoint} --support IMAGE MASK --query IMAGE",
            *(joint if dataset.classes is not None else []),
            f"Experiments split0_{_FAMILY} to split3_{_FAMILY} need masks of at least two classes.",
        ]
    return [
        *lines,
        f"  bash test.sh {name} split{folds[0].number}_{_FAMILY} TRAIN.weight={checkpoint}",
        *joint,
        "Experiments that train with labels, and the classes that they hold back for the test:",
        *(f"  split{fold.number}_{_FAMILY}: {_span(fold.test)}" for fold in folds),
    ]


def _span(classes: Sequence[int]) -> str:
    return f"class {classes[0]}" if len(classes) == 1 else f"classes {classes[0]} to {classes[-1]}"


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
