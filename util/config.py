"""Reading a configuration: an experiment's YAML files, then ``key=value`` arguments of the command line.

``load_config(dataset, experiment, overrides)`` is the only way in; what it returns is complete, checked and
frozen. ``util.experiments`` names the files of an experiment; ``util.schema`` holds the keys, under the published
code's names where it had one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from util.errors import UserError
from util.experiments import experiment_files, experiment_names, own_experiments, split_of, with_split
from util.files import PROJECT, write_text
from util.published_keys import ALIASES, LAYERS, PUBLISHED, WITHOUT_EFFECT, drop_keys_without_effect
from util.schema import ClusterSection, Config, DataSection, TrainSection, VisSection

_SPLIT = "TRAIN.split"
_SECTIONS: dict[str, type[BaseModel]] = {
    "DATA": DataSection,
    "Cluster": ClusterSection,
    "VIS": VisSection,
    "TRAIN": TrainSection,
}
_FIELDS = {f"{section}.{key}": field for section, keys in _SECTIONS.items() for key, field in keys.model_fields.items()}
_WEIGHTS_FROM_TIMM = Path("timm")

Values = dict[str, dict[str, Any]]  # section -> key -> value, before validation


def load_config(dataset: str, experiment: str, overrides: Sequence[str] = ()) -> Config:
    """Read the files of an experiment and apply the overrides.

    The files are ``config/DATASET/DATASET_EXPERIMENT.yaml`` over its ``base`` list, or, where there is no such file and
    the experiment is ``ssl_FAMILY`` or ``splitN_FAMILY``, each over those before it:

    - ``config/base.yaml`` and ``config/DATASET/base.yaml``;
    - ``config/ssl.yaml`` or ``config/split.yaml``, and ``config/DATASET/``'s file of the same name if there is one;
    - ``config/DATASET/FAMILY.yaml``, else ``config/FAMILY.yaml``.

    ``TRAIN.split`` comes from the name. ``overrides`` holds ``TRAIN.epochs=3``, ``epochs=3``, or the same as two
    arguments without the equals sign. Relative paths in a YAML file start at the project's folder, those in
    ``overrides`` at the working directory.
    Raises ``UserError`` that lists every unknown key, wrong type and impossible value at once, also a ``TRAIN.split``
    that contradicts the experiment's name.
    """
    values = _read_experiment(dataset, experiment)
    settings, problems = _read_overrides(overrides)
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
    values: Values = {section: {} for section in _SECTIONS}
    split = split_of(experiment)
    if split is not None:
        _set(values, _SPLIT, split)
    for path in experiment_files(PROJECT / "config", dataset, experiment):
        _merge(values, _read_yaml(path))
    return values


def _read_yaml(path: Path) -> Values:
    """One YAML file merged over the files its top-level ``base`` (a list, relative to it) names, in order."""
    try:
        content = yaml.safe_load(path.read_bytes()) or {}
    except FileNotFoundError:
        raise UserError(f"{path}: configuration file not found") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected the sections {', '.join(_SECTIONS)}")
    bases = content.pop("base", [])
    if not isinstance(bases, list):
        raise UserError(f"{path}: base must be a list of files, like [base.yaml]")
    merged: Values = {}
    for base in bases:
        _merge(merged, _read_yaml(path.parent / str(base)))
    for section, settings in content.items():
        if not isinstance(settings, dict | None):
            raise UserError(f"{path}: '{section}' must be a section with keys, like {section}: {{key: value}}")
        _merge(merged, {section: settings or {}})
    return merged


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
        _set(values, "TRAIN.backbone", f"resnet{value}_v2")
        _set(values, "TRAIN.backbone_weights", f"initmodel/resnet{value}_v2.pth")
        return
    section, _, key = ALIASES.get(name, name).partition(".")
    values.setdefault(section, {})[key] = value


def _read_overrides(overrides: Sequence[str]) -> tuple[list[tuple[str, Any]], list[str]]:
    """The settings, as ``SECTION.key`` and value, and what is wrong with the overrides that cannot be set."""
    settings: list[tuple[str, Any]] = []
    problems: list[str] = []
    arguments = list(overrides)
    while arguments:
        key, separator, text = arguments.pop(0).partition("=")
        name = _full_name(key)
        if name is None:
            problems.append(f"unknown key '{key}'{_suggestion(key)}")
        if not separator:
            if not arguments or "=" in arguments[0]:
                problems.append(f"'{key}' has no value; write {key}=VALUE")
                continue
            text = arguments.pop(0)
        if name is not None:
            settings.append((name, _parse(name, text)))
    return settings, problems


def _full_name(key: str) -> str | None:
    """``TRAIN.epochs`` for ``TRAIN.epochs`` or ``epochs``; None when no section has it."""
    if key.startswith("Distributed."):
        return key
    names = [*_FIELDS, *ALIASES, LAYERS, *WITHOUT_EFFECT]
    return next((name for name in names if "." in name and key in (name, name.split(".")[1])), None)


def _suggestion(key: str) -> str:
    names = {name.split(".")[1]: name for name in _FIELDS}
    close = difflib.get_close_matches(key.split(".")[-1], names, n=1)
    return f" (did you mean {names[close[0]]}?)" if close else ""


def _parse(name: str, text: str) -> Any:
    """The value of an override: a path as typed, anything else as YAML reads it."""
    field = _FIELDS.get(ALIASES.get(name, name))
    if field is not None and "Path" in str(field.annotation):
        if text.lower() in ("", "null", "none"):
            return None
        path = Path(text).expanduser()
        return path if path == _WEIGHTS_FROM_TIMM else path.absolute()
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _contradictions(config: Config) -> list[str]:
    """A problem where ``TRAIN.split`` is not the one of the experiment's name: the run would have a wrong name."""
    split = split_of(config.experiment)
    if split in (None, config.TRAIN.split):
        return []
    experiment = with_split(config.experiment, config.TRAIN.split)
    return [f"{_SPLIT}={config.TRAIN.split} contradicts the experiment's name; use {experiment}, or {_SPLIT}={split}"]


def _explain(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{name}'{_suggestion(name)}"
    if problem["type"] == "missing":
        return f"{name} is missing"
    if problem["type"] == "value_error":
        return f"{name} {problem['ctx']['error']}"
    return f"{name}={problem['input']!r}: {problem['msg']}"


def _anchor_paths(config: Config) -> Config:
    """Make every relative path absolute, starting at the project's folder."""
    sections = {}
    for section in _SECTIONS:
        settings = getattr(config, section)
        paths = {
            key: PROJECT / value.expanduser()
            for key, value in settings
            if isinstance(value, Path) and value != _WEIGHTS_FROM_TIMM
        }
        sections[section] = settings.model_copy(update=paths)
    return config.model_copy(update=sections)
