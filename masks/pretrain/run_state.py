"""Files of a pretraining run: the state after each epoch, and the backbone with a record of how it was made.

Only the first process reads and writes; the others receive what it read.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from masks.pretrain.moco import MoCo
from util.distributed import from_first, rank
from util.errors import UserError
from util.logging import logger
from util.settings import require_same
from util.tensor_files import read_tensor_file, write_safetensors_file, write_torch_file

_ANEW = "the run begins anew"
# What torch raises for a state of another network or optimizer.
_DOES_NOT_FIT = (RuntimeError, ValueError, LookupError, TypeError, AttributeError)
# Values of records that were written before these keys existed.
_ALWAYS_BEFORE = {"precision": "fp32", "processes": 1}


class PretrainFiles:
    """The result ``OUT.safetensors`` and, until there is one, the state ``OUT.partial.pth``.

    ``record`` holds everything that the weights depend on: a file with another record is refused with a ``UserError``.
    """

    def __init__(self, out: Path, record: Mapping[str, Any]) -> None:
        self.out = out
        self.partial = out.with_suffix(".partial.pth")
        self.record = dict(record)

    def is_finished(self) -> bool:
        """Whether ``OUT.safetensors`` exists."""
        return from_first(rank() == 0 and self._result_exists())

    def resume(self, moco: MoCo, optimizer: torch.optim.Optimizer) -> int:
        """Load the state of an interrupted run, if there is one; returns the number of its finished epochs.

        A state that is damaged or of another network stays until the next one is written: the run begins anew.
        """
        state = from_first(self._read_state() if rank() == 0 else None)
        if state is None:
            return 0
        at_the_start = copy.deepcopy(moco.state_dict())
        try:
            epochs = range(self.record["epochs"] + 1).index(state["epochs"])  # a ValueError for any other number
            moco.load_state_dict(state["moco"])
            optimizer.load_state_dict(state["optimizer"])
        except _DOES_NOT_FIT:
            moco.load_state_dict(at_the_start)
            logger.warning("%s: not a state of this network; %s", self.partial, _ANEW)
            return 0
        logger.info("continuing after epoch %d of %d", epochs, self.record["epochs"])
        return epochs

    def save_state(self, moco: MoCo, optimizer: torch.optim.Optimizer, *, epochs: int) -> None:
        """Write the state after ``epochs`` epochs, atomically."""
        if rank() > 0:
            return
        state = {"epochs": epochs, "moco": moco.state_dict(), "optimizer": optimizer.state_dict()}
        write_torch_file(self.partial, {"record": self.record, **state})

    def finish(self, backbone: nn.Module) -> None:
        """Write the result atomically, then remove the state."""
        if rank() > 0:
            return
        weights = {name: tensor.cpu() for name, tensor in backbone.state_dict().items()}
        software = f"torch {torch.__version__}, timm {version('timm')}"
        metadata = {"format": "pt", "normalize": "imagenet", "record": json.dumps(self.record), "software": software}
        write_safetensors_file(self.out, weights, metadata)
        self.partial.unlink(missing_ok=True)
        logger.info("wrote %s", self.out)

    def _result_exists(self) -> bool:
        if not self.out.exists():
            return False
        self._check(self.out, _read_record(self.out))
        logger.info("%s is already the result of this command", self.out)
        return True

    def _read_state(self) -> dict[str, Any] | None:
        if not self.partial.exists():
            return None
        if self.partial.is_dir():
            raise UserError(f"{self.partial}: a folder is there, a file expected; remove it or choose another OUT")
        try:
            state = read_tensor_file(self.partial, missing=_ANEW, damaged=_ANEW).content
        except UserError as error:
            logger.warning("%s", error)
            return None
        if not _is_record(state.get("record")):
            logger.warning("%s: not the state of a run; %s", self.partial, _ANEW)
            return None
        self._check(self.partial, state["record"])
        return state

    def _check(self, path: Path, recorded: Mapping[str, Any]) -> None:
        advice = "delete it or give the settings it was made with"
        require_same(path, {**_ALWAYS_BEFORE, **recorded}, self.record, advice=advice)


def _read_record(path: Path) -> dict[str, Any]:
    advice = "delete it or name another file"
    metadata = read_tensor_file(path, missing=advice, damaged=advice).metadata
    try:
        record = json.loads(metadata.get("record", "null"))
    except (ValueError, RecursionError):
        record = None
    if not _is_record(record):
        raise UserError(f"{path}: exists and was not made by this command; {advice}")
    return dict(record)


def _is_record(value: Any) -> bool:
    """Whether it can be compared with one: plain values by name."""
    return isinstance(value, dict) and all(isinstance(part, str | int | float) for part in value.values())
