"""Points and pictures for TensorBoard."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import image, scalar

from util.distributed import rank
from util.files import make_folder


class EventFile:
    """A file of its own in ``folder`` for what a process adds, made when that is the first point.

    Of several processes that train together only the first writes one.

    TensorBoard drops the points that earlier files of the folder have from ``first_iteration`` on. Not tensorboardX's
    ``SummaryWriter``: its ``flush`` leaves out what its queue still holds.
    """

    def __init__(self, folder: Path, first_iteration: int) -> None:
        self.folder = folder
        self.first_iteration = first_iteration
        self._writer: EventsWriter | None = None

    def add_scalar(self, name: str, value: float, iteration: int) -> None:
        self._add(scalar(name, value), iteration)

    def add_picture(self, name: str, picture: np.ndarray, iteration: int) -> None:
        """``picture`` is (H, W, 3) uint8."""
        self._add(image(name, picture, dataformats="HWC"), iteration)

    def flush(self) -> None:
        """Return when all that was added is on the disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _add(self, summary: Summary, iteration: int) -> None:
        if rank() > 0:
            return
        is_first = self._writer is None
        self._writer = self._writer or self._begin()
        self._writer.write_event(Event(summary=summary, step=iteration, wall_time=time.time()))
        if is_first:
            self.flush()  # a process that is killed leaves no empty file

    def _begin(self) -> EventsWriter:
        make_folder(self.folder)
        # The suffix keeps a run that goes on within the same second from overwriting the file before.
        writer = EventsWriter(str(self.folder / "events"), f".{os.getpid()}.{self.first_iteration}")
        writer.write_event(Event(session_log=SessionLog(status=SessionLog.START), step=self.first_iteration))
        return writer
