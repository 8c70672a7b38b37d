"""The folder of a run: its files, and whether a command may continue what it holds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from model.checkpoints import read_checkpoint
from util.config import Config, save_config
from util.config.schema import SECTIONS
from util.environment import describe_environment
from util.errors import UserError
from util.files import atomic_write, write_text
from util.logging import logger
from util.settings import differences
from util.tensor_files import write_torch_file

LATEST = "latest.pth"
PREVIOUS = "previous.pth"
DAMAGED = "damaged.pth"
BEST = "best.pth"
EPOCHS = "epochs.jsonl"
LOG = "log.txt"
_CONFIG = "config.yaml"
# Keys that may differ when a run is continued: neither episodes nor weights depend on them.
_FREE_KEYS = {
    "TRAIN": {
        "workers", "print_freq", "save_freq", "save_minutes", "train_gpu", "save_path", "resume", "evaluate",
        "evaluate_every", "accumulate", "compile", "best_on_validation", "batch_size_val", "episodes", "val_size",
        "seeds", "views_gb", "refine",
    },
    "DATA": {"data_root", "val_list"},
    "Cluster": {"threads"},
    "VIS": {"visualize", "pictures"},
}  # fmt: skip


_WRITTEN = (_CONFIG, LOG, EPOCHS, LATEST, PREVIOUS, DAMAGED, BEST)


def check_run_folder(folder: Path, names: Iterable[str] = _WRITTEN) -> None:
    """Raise ``UserError`` where a folder takes the place of a file: writing it, much later, would fail."""
    for name in names:
        if (folder / name).is_dir():
            raise UserError(f"{folder / name}: a folder, a file is written here; remove it, or set TRAIN.save_path")


def interrupted_run(config: Config, training_data: Mapping[str, str]) -> dict[str, Any] | None:
    """The checkpoint to continue from: ``TRAIN.resume``, else the run folder's newest; None where there is none.

    ``training_data`` holds digests of what the run is trained on (``episodes.build.digest_training_data``). A folder
    without a checkpoint is free for any run. Raises ``UserError`` that names every setting and digest in which the run
    of the checkpoint differs, or that of the folder's own checkpoint, which this run would replace.
    """
    resume, folder = config.TRAIN.resume, config.run_folder
    if resume is not None and not resume.is_file():
        raise UserError(f"TRAIN.resume={resume}: checkpoint not found; leave the key empty to start from the beginning")
    newest, problem = _newest_sound(folder)
    own = read_checkpoint(folder / BEST) if newest is None and (folder / BEST).is_file() else newest
    if own is not None:
        advice = "set TRAIN.save_path to another folder, or delete this one"
        _check_same_run(own, f"{folder} holds", config, training_data, advice)
    if problem is not None:
        logger.warning("%s; continuing from the checkpoint before it", problem)
        _replace_latest(folder)
    if resume is None:
        return newest
    elsewhere = read_checkpoint(resume)
    advice = f"change the configuration, or start a new run from its weights with TRAIN.weight={resume}"
    _check_same_run(elsewhere, f"TRAIN.resume={resume} is of", config, training_data, advice)
    return elsewhere


def describe_run(config: Config, *, copies: Mapping[str, Path]) -> None:
    """Write the configuration into the run folder, for people to read.

    ``copies`` maps names in the run folder to files that a run on pseudo masks copies, where they exist: the measured
    quality of the masks.
    """
    save_config(config, config.run_folder / _CONFIG)
    for name, source in copies.items():
        if config.uses_pseudo_masks and source.is_file():
            write_text(config.run_folder / name, source.read_text(encoding="utf-8"))


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write tensors and plain values atomically, readable with ``weights_only=True``."""
    write_torch_file(path, checkpoint)


def save_latest(folder: Path, checkpoint: dict[str, Any]) -> None:
    """``save_checkpoint`` as the latest of ``folder``, which keeps the one before; at any time there is a latest."""
    if (folder / LATEST).is_file():
        with atomic_write(folder / PREVIOUS) as temporary:
            try:
                os.link(folder / LATEST, temporary)
            except OSError:  # a file system without hard links
                shutil.copyfile(folder / LATEST, temporary)
    save_checkpoint(folder / LATEST, checkpoint)


def checkpoint_origin(config: Config) -> dict[str, Any]:
    """The origin that a checkpoint records: the resolved configuration and the versions of the software."""
    return {"config": config.model_dump(mode="json"), "environment": json.loads(json.dumps(describe_environment()))}


def _newest_sound(folder: Path) -> tuple[dict[str, Any] | None, str | None]:
    """The latest checkpoint and None, or the previous one and what is wrong with the latest; None for no checkpoint.

    Raises ``UserError`` that names both where both are damaged.
    """
    problems = []
    for path in (folder / LATEST, folder / PREVIOUS):
        if not path.is_file():
            problems.append(f"{path}: missing")
            continue
        try:
            return read_checkpoint(path), problems[0] if problems else None
        except UserError as problem:
            problems.append(str(problem))
    if all(problem.endswith(": missing") for problem in problems):
        return None, None
    raise UserError(f"{'; '.join(problems)}; delete what is damaged to start from the beginning")


def _replace_latest(folder: Path) -> None:
    """Put the previous checkpoint in the place of the latest, which is kept aside."""
    if (folder / LATEST).is_file():
        os.replace(folder / LATEST, folder / DAMAGED)
    os.replace(folder / PREVIOUS, folder / LATEST)


def _check_same_run(
    checkpoint: Mapping[str, Any], place: str, config: Config, training_data: Mapping[str, str], advice: str
) -> None:
    """Raise ``UserError`` where ``config`` describes another run; a checkpoint without digests may be of any data."""
    actual = {"training_data": checkpoint.get("training_data", training_data), **_with_later_keys(checkpoint["config"])}
    different = differences(actual, {"training_data": training_data, **_decisive_settings(config)})
    if different:
        raise UserError(f"{place} another run ({'; '.join(different)}); {advice}")


def _with_later_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's configuration, with the defaults of keys that did not exist when it was written."""
    defaults = {key: field.default for key, field in SECTIONS["TRAIN"].model_fields.items()}
    return {**config, "TRAIN": {**defaults, **config["TRAIN"]}}


def _decisive_settings(config: Config) -> dict[str, Any]:
    """The settings that episodes or weights depend on."""
    return {
        name: {key: value for key, value in settings.items() if key not in _FREE_KEYS.get(name, set())}
        if isinstance(settings, dict)
        else settings
        for name, settings in config.model_dump(mode="json").items()
    }
