"""The networks among which the page lets choose: what the command was given, those in ``exp/``, and no training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.untrained import METHODS, Untrained
from util.errors import UserError
from util.files import PROJECT

if TYPE_CHECKING:
    from segmenter import Segmenter

_RUNS = "*/*/latest.pth"
_NEAREST = METHODS[0]


class Choice(NamedTuple):
    """``title`` is shown; ``load`` reads the network, which takes a second or more, and raises ``UserError``."""

    title: str
    load: Callable[[], Segmenter]


class Choices:
    """What can be chosen, by keys that the page sends back; the first is chosen where it sends none."""

    def __init__(
        self,
        checkpoint: Path | None = None,
        method: str | None = None,
        backbone: Sequence[str] = (),
        runs: Path = PROJECT / "exp",
    ) -> None:
        """``checkpoint`` or ``method`` comes first, then the runs in ``runs``, the newest first, then the methods.

        Methods use the backbone that ``backbone`` describes, and are left out where its weights are not there. Raises
        ``UserError`` for a checkpoint or a backbone that is not there, and where there is nothing to choose.
        """
        self._checkpoint, self._backbone, self._runs = checkpoint, tuple(backbone), runs
        if checkpoint is not None and not checkpoint.exists():
            raise UserError(f"--checkpoint {checkpoint}: no checkpoint here; expected a run folder or a file")
        self._methods = [name for name in METHODS if method is None or name == method]
        self._comes_first = method is not None
        try:
            Untrained.read(self._methods[0], backbone)
        except UserError:
            self._methods = []
            if method is not None or backbone or not self.all():
                raise

    def all(self) -> dict[str, Choice]:
        """Every choice by its key, as it is now: a training may have ended since the last time."""
        methods = {name: Choice(f"{name} (without training)", self._method(name)) for name in self._methods}
        given = {}
        if self._checkpoint is not None:
            given["given"] = Choice(str(self._checkpoint), self._network(self._checkpoint))
        files = sorted(self._runs.glob(_RUNS), key=lambda file: file.stat().st_mtime, reverse=True)
        found = {
            run.relative_to(self._runs).as_posix(): Choice(f"exp/{run.relative_to(self._runs)}", self._network(run))
            for run in (file.parent for file in files)
        }
        return {**methods, **found} if self._comes_first else {**given, **found, **methods}

    def _network(self, checkpoint: Path) -> Callable[[], Segmenter]:
        def load() -> Segmenter:
            from segmenter import Segmenter  # not above: it needs torch

            return Segmenter.load(checkpoint)

        return load

    def _method(self, name: str) -> Callable[[], Segmenter]:
        def load() -> Segmenter:
            from segmenter import Segmenter

            return Segmenter.load(method=name, backbone=self._backbone)

        return load
