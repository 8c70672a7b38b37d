"""Reading a configuration: an experiment's YAML files, then ``key=value`` arguments of the command line.

``load_config(dataset, experiment, overrides)`` is the only way in; what it returns is complete, checked and frozen.
``util.config.experiments`` names the files of an experiment; ``util.config.schema`` holds the keys, under the
published code's names where it had one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from util.config.experiments import experiment_files, experiment_names, own_experiments, split_of, with_split
from util.config.published_keys import ALIASES, LAYERS, PUBLISHED, drop_keys_without_effect
from util.config.schema import SECTIONS, Config
from util.config.strict_yaml import read_yaml
from util.config.words import WEIGHTS_FROM_TIMM, read_words, suggestion
from util.errors import UserError, shown
from util.files import PROJECT, write_text
from util.logging import warn_once

_SPLIT = "TRAIN.split"
_LAYERS = (50, 101)
_BACKGROUND_AND_OBJECT = 2  # DATA.classes in the published code
_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a word",
    "path_type": "a path",
    "list_type": "a list, like [0]",
}

Values = dict[str, dict[str, Any]]  # section -> key -> value, before validation


def load_config(dataset: str, experiment: str, overrides: Sequence[str] = ()) -> Config:
    """Read the files of an experiment and apply the overrides.

    The files are ``config/DATASET/DATASET_EXPERIMENT.yaml`` over its ``base`` list, or, where there is no such file and
    the experiment is ``ssl_FAMILY``, ``joint_FAMILY`` or ``splitN_FAMILY``, each over those before it:

    - ``config/base.yaml`` and ``config/DATASET/base.yaml``;
    - ``config/ssl.yaml``, ``config/ssl.yaml`` and ``config/joint.yaml``, or ``config/split.yaml``, each with
      ``config/DATASET/``'s file of the same name if there is one;
    - ``config/DATASET/FAMILY.yaml``, else ``config/FAMILY.yaml``.

    ``TRAIN.split`` comes from the name. ``overrides`` holds ``TRAIN.epochs=3``, ``epochs=3``, or the same as two
    arguments without the equals sign. Relative paths in a YAML file start at the project's folder, those in
    ``overrides`` at the working directory. Files of the published code load as they are
    (``util.config.published_keys``).

    Raises ``UserError`` that lists every unknown key, wrong type and impossible value at once, also a ``TRAIN.split``
    that contradicts the experiment's name.
    """
    values = _read_experiment(dataset, experiment)
    settings, problems = read_words(overrides)
    _update(values, settings)
    if values.get("TRAIN", {}).get("compat") == "published":
        _update(values, PUBLISHED.items())
        _update(values, settings)
    drop_keys_without_effect(values)
    try:
        config = Config.model_validate({**values, "dataset": dataset, "experiment": experiment})
        problems += _contradictions(config)
    except ValidationError as error:
        problems += [_explain(problem) for problem in error.errors()]
    if problems:
        raise UserError(f"configuration {dataset} {experiment}: {'; '.join(problems)}")
    return _anchor_paths(config)


def save_config(config: Config, path: Path) -> None:
    """Write the resolved configuration as YAML."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def experiments(dataset: str, *, with_own_file: bool = False) -> list[str]:
    """Names of the experiments of ``dataset``, sorted: all, or only those with a ``DATASET_EXPERIMENT.yaml``.

    Raises ``UserError`` that lists the datasets that exist when there is none of this name.
    """
    names = experiment_names(PROJECT / "config", dataset)
    return own_experiments(PROJECT / "config", dataset) if with_own_file else names


def _read_experiment(dataset: str, experiment: str) -> Values:
    values: Values = {section: {} for section in SECTIONS}
    split = split_of(experiment)
    if split is not None:
        _set(values, _SPLIT, split)
    files = experiment_files(PROJECT / "config", dataset, experiment)
    for path in files:
        _merge(values, _read_file(path))
    if len(files) == 1 and values["DATA"].get("classes") == _BACKGROUND_AND_OBJECT:
        _correct_classes(values["DATA"], files[0])
    return values


def _read_file(path: Path, above: tuple[Path, ...] = ()) -> Values:
    """One YAML file merged over the files its top-level ``base`` (a list, relative to it) names, in order.

    ``above`` are the files that lead here.
    """
    content = read_yaml(path)
    if not isinstance(content, dict | None):
        raise UserError(f"{path}: expected the sections {', '.join(SECTIONS)}")
    content = content or {}
    bases = content.pop("base", [])
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{path}: base must be a list of files, like [base.yaml]")
    place = Path(os.path.realpath(path))
    if place in above:
        way = ", ".join(file.name for file in above)
        raise UserError(f"{path}: is its own base, over {way}; remove one of these from the base of another")
    merged: Values = {}
    for base in bases:
        _merge(merged, _read_file(path.parent / base, (*above, place)))
    for section, settings in content.items():
        if not isinstance(settings, dict | None):
            raise UserError(f"{path}: {shown(section)} must be a section with keys, like TRAIN: {{epochs: 3}}")
        _merge(merged, {section: settings or {}})
    return merged


def _correct_classes(data: dict[str, Any], file: Path) -> None:
    """In a file of the published code, which names no ``base``, classes are counted otherwise: take the dataset's."""
    dataset = file.parent / "base.yaml"
    if "base" in read_yaml(file) or not dataset.is_file():
        return
    classes = _read_file(dataset).get("DATA", {}).get("classes", _BACKGROUND_AND_OBJECT)
    if classes != _BACKGROUND_AND_OBJECT:
        data["classes"] = classes
        warn_once(f"config: DATA.classes=2 in {file.name} counts background and object; taken: {classes} classes")


def _merge(target: Values, source: Values) -> None:
    for section, settings in source.items():
        target.setdefault(section, {})
        _update(target, ((f"{section}.{key}", value) for key, value in settings.items()))


def _update(values: Values, settings: Iterable[tuple[str, Any]]) -> None:
    for name, value in settings:
        _set(values, name, value)


def _set(values: Values, name: str, value: Any) -> None:
    """Set ``SECTION.key``, under today's name where ``name`` is a published alias."""
    if name == LAYERS:
        if value not in _LAYERS:
            raise UserError(f"{LAYERS}={shown(value)}: 50 or 101 expected; another network is TRAIN.backbone=NAME")
        _set(values, "TRAIN.backbone", f"resnet{value}_v2")
        _set(values, "TRAIN.backbone_weights", f"initmodel/resnet{value}_v2.pth")
        return
    section, _, key = ALIASES.get(name, name).partition(".")
    values.setdefault(section, {})[key] = value


def _contradictions(config: Config) -> list[str]:
    """A problem where ``TRAIN.split`` is not the one of the experiment's name: the run would have a wrong name.

    Others where several seeds are to continue one checkpoint, and where labelled and pseudo episodes cannot join.
    """
    train, split = config.TRAIN, split_of(config.experiment)
    problems = []
    if split not in (None, train.split):
        experiment = with_split(config.experiment, train.split)
        problems.append(
            f"{_SPLIT}={train.split} contradicts the experiment's name; use {experiment}, or {_SPLIT}={split}"
        )
    if train.seeds and train.resume is not None:
        problems.append("TRAIN.resume names one run, TRAIN.seeds several; leave one of them empty")
    if train.pseudo_share and config.unsupervised:
        problems.append("TRAIN.pseudo_share is for joint and split experiments; this one has pseudo episodes alone")
    if train.pseudo_share and config.published:
        problems.append("TRAIN.pseudo_share must be 0 with TRAIN.compat=published")
    return problems


def _explain(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {shown(name)}{suggestion(name)}"
    if problem["type"] == "missing":
        return f"{name} is missing"
    if problem["type"] == "value_error":
        return f"{name} {problem['ctx']['error']}"
    expected = _EXPECTED.get(problem["type"])
    return f"{name}={shown(problem['input'])}: {f'{expected} expected' if expected else problem['msg']}"


def _anchor_paths(config: Config) -> Config:
    """Make every relative path absolute."""
    sections = {}
    for section in SECTIONS:
        settings = getattr(config, section)
        paths = {
            key: _anchored(key, value)
            for key, value in settings
            if isinstance(value, Path) and value != WEIGHTS_FROM_TIMM
        }
        sections[section] = settings.model_copy(update=paths)
    return config.model_copy(update=sections)


def _anchored(key: str, path: Path) -> Path:
    """``path`` from the project's folder on.

    The published ``data_root: ../data/NAME`` is beside the project; where nothing is there, it is taken inside it.
    """
    path = Path(os.path.expanduser(path))
    if key != "data_root" or path.is_absolute() or ".." not in path.parts or (PROJECT / path).is_dir():
        return PROJECT / path
    inside = PROJECT.joinpath(*(part for part in path.parts if part != ".."))
    warn_once(f"config: DATA.data_root={path} is not there, seen from the project's folder; {inside} is taken")
    return inside
