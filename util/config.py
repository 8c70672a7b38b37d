"""Reading a configuration: YAML files over their bases, then ``key=value`` words of the command line.

``load_config(dataset, experiment, overrides)`` is the only way in; what it returns is complete, checked and
frozen. ``util.schema`` holds the keys; they have the published code's names where it had one.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from util.errors import UserError
from util.files import PROJECT, write_text
from util.logging import logger
from util.schema import ClusterSection, Config, DataSection, TrainSection, VisSection

# Keys of the published code that change nothing here, and why.
_WITHOUT_EFFECT = {
    "TRAIN.with_transformer": "the transformer is the network",
    "TRAIN.fix_random_seed_val": "test episodes are always functions of the seed",
    "TRAIN.use_coco": "the dataset's name says it",
    "TRAIN.start_epoch": "a checkpoint knows its epoch",
    "TRAIN.resized_val": "test images always keep their shape",
    "TRAIN.ori_resize": "predictions are always scored at the original size",
    "TRAIN.reg_weight": "it was never read",
    "TRAIN.consist_init_epoch": "it was never read",
    "TRAIN.use_apex": "it was never read",
    "Distributed": "torchrun says it",
}
_ALIASES = {
    "DATA.data_list": "DATA.train_list",
    "DATA.list": "DATA.train_list",
    "TRAIN.checkpoint_path": "TRAIN.weight",
    "Cluster.weights": "Cluster.extractor_weights",
}
_LAYERS = "TRAIN.layers"  # published: 50 or 101 names a backbone and its weights
_SECTIONS: dict[str, type[BaseModel]] = {
    "DATA": DataSection,
    "Cluster": ClusterSection,
    "VIS": VisSection,
    "TRAIN": TrainSection,
}
_FIELDS = {f"{section}.{key}": field for section, keys in _SECTIONS.items() for key, field in keys.model_fields.items()}
_WEIGHTS_FROM_TIMM = Path("timm")

# What `TRAIN.compat: published` sets, beside the behaviour that has no key of its own. Words of the command line
# win over it.
_PUBLISHED = {
    "Cluster.recipe": "global",
    "Cluster.algorithm": "minibatch",
    "Cluster.cluster_images": 0,
    "Cluster.stage": None,
    "Cluster.flip": False,
    "Cluster.scales": [1.0],
    "Cluster.empty_share": 0.01,
    "Cluster.region_rule": "span",
    "Cluster.neighbours": 0,
    "TRAIN.support_self_attention": False,
    "TRAIN.contrast_residual": False,
    "TRAIN.lr_scale": 15.0,
    "TRAIN.transformer_lr": 1e-4,
    "TRAIN.evaluate": True,
    "TRAIN.best_on_validation": True,
}

Values = dict[str, dict[str, Any]]  # section -> key -> value, before validation


def load_config(dataset: str, experiment: str, overrides: Sequence[str] = ()) -> Config:
    """Read ``config/DATASET/DATASET_EXPERIMENT.yaml`` over its bases and apply the overrides.

    ``overrides`` holds ``TRAIN.epochs=3``, ``epochs=3``, or the same as two words without the equals sign.
    Relative paths in a YAML file start at the project's folder, those in ``overrides`` at the working directory.
    Raises ``UserError`` that lists every unknown key, wrong type and impossible value at once.
    """
    values = _read_yaml(_experiment_file(dataset, experiment))
    problems = _apply_overrides(values, overrides)
    _drop_keys_without_effect(values)
    if values.get("TRAIN", {}).get("compat") == "published":
        for name, value in _PUBLISHED.items():
            _set(values, name, value)
        _apply_overrides(values, overrides)
        _drop_keys_without_effect(values)
    try:
        config = Config.model_validate({**values, "dataset": dataset, "experiment": experiment})
    except ValidationError as error:
        problems += [_explain(problem) for problem in error.errors()]
    if problems:
        raise UserError(f"configuration {dataset} {experiment}: {'; '.join(problems)}")
    return _anchor_paths(config)


def save_config(config: Config, path: Path) -> None:
    """Write the resolved configuration as YAML."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def experiments(dataset: str) -> list[str]:
    """Names of the experiments that have a YAML for ``dataset``, sorted."""
    files = (PROJECT / "config" / dataset).glob(f"{dataset}_*.yaml")
    return sorted(file.stem.removeprefix(f"{dataset}_") for file in files)


def _experiment_file(dataset: str, experiment: str) -> Path:
    datasets = sorted(folder.name for folder in (PROJECT / "config").iterdir() if folder.is_dir())
    if dataset not in datasets:
        raise UserError(f"no dataset '{dataset}' in config/; there are: {', '.join(datasets)}")
    names = experiments(dataset)
    if experiment not in names:
        raise UserError(f"no experiment '{experiment}' in config/{dataset}/; there are: {', '.join(names)}")
    return PROJECT / "config" / dataset / f"{dataset}_{experiment}.yaml"


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
        for key, value in settings.items():
            _set(target, f"{section}.{key}", value)


def _set(values: Values, name: str, value: Any) -> None:
    """Set ``SECTION.key``, in today's words where ``name`` is a published alias."""
    if name == _LAYERS:
        _set(values, "TRAIN.backbone", f"resnet{value}_v2")
        _set(values, "TRAIN.backbone_weights", f"initmodel/resnet{value}_v2.pth")
        return
    section, _, key = _ALIASES.get(name, name).partition(".")
    values.setdefault(section, {})[key] = value


def _apply_overrides(values: Values, overrides: Sequence[str]) -> list[str]:
    """Set each override; returns what is wrong with those that cannot be set."""
    problems = []
    words = list(overrides)
    while words:
        key, separator, text = words.pop(0).partition("=")
        name = _full_name(key)
        if name is None:
            problems.append(f"unknown key '{key}'{_suggestion(key)}")
        if not separator:
            if not words or "=" in words[0]:
                problems.append(f"'{key}' has no value; write {key}=VALUE")
                continue
            text = words.pop(0)
        if name is not None:
            _set(values, name, _parse(name, text))
    return problems


def _full_name(key: str) -> str | None:
    """``TRAIN.epochs`` for ``TRAIN.epochs`` or ``epochs``; None when no section has it."""
    if key.startswith("Distributed."):
        return key
    names = [*_FIELDS, *_ALIASES, _LAYERS, *_WITHOUT_EFFECT]
    return next((name for name in names if "." in name and key in (name, name.split(".")[1])), None)


def _suggestion(key: str) -> str:
    names = {name.split(".")[1]: name for name in _FIELDS}
    close = difflib.get_close_matches(key.split(".")[-1], names, n=1)
    return f" (did you mean {names[close[0]]}?)" if close else ""


def _parse(name: str, text: str) -> Any:
    """The value of an override: a path as it is typed, anything else as YAML reads it."""
    field = _FIELDS.get(_ALIASES.get(name, name))
    if field is not None and "Path" in str(field.annotation):
        if text.lower() in ("", "null", "none"):
            return None
        path = Path(text).expanduser()
        return path if path == _WEIGHTS_FROM_TIMM else path.absolute()
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _drop_keys_without_effect(values: Values) -> None:
    for name, reason in _WITHOUT_EFFECT.items():
        section, _, key = name.partition(".")
        holder: dict[str, Any] = values.get(section, {}) if key else values
        if holder.pop(key or section, None) is not None:
            logger.warning("config: %s has no effect (%s)", name, reason)


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
